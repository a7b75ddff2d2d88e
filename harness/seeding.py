"""Named random streams.

Every source of randomness of a trial has its own stream, derived from (seed, name). Two
optimizers with one seed so start from the same weights and see the same batches, whatever else
differs between them and in whatever order trials run.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

STREAMS = ("init", "order", "dropout", "split", "augmentation")


def stream_seed(seed: int, *name: str | int) -> int:
    """The seed of a stream: an integer in [0, 2**63), the same on every machine.

    name: the stream's name and what else sets it apart, such as the epoch. Streams that restart
    with each epoch need no state to resume.
    """
    text = "/".join(str(part) for part in ("harness", seed, *name))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(seed: int, *name: str | int, device: str = "cpu") -> torch.Generator:
    """A torch generator for a stream, on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(stream_seed(seed, *name))
