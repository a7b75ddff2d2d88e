"""Training of several trials at once, as one stack."""

from typing import Final

VARYING_FIELDS: Final = frozenset({"optimizer", "lr", "scheduler", "seed", "grad_clip"})
"""Trial fields in which the trials of one stack may differ; in all others they are alike."""
