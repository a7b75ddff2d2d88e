"""What the optimizers share: ranges, torch parameters that are no options here, fused kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor

Decay = Annotated[float, Field(ge=0, lt=1)]
"""The weight of the past in a running average."""

Betas = Annotated[tuple[Decay, Decay], Field(strict=False)]
"""Adam's two decays as one option, `betas: [0.9, 0.999]`, as torch and the papers have them."""

NOT_OPTIONS: Final[Mapping[str, str]] = {
    "foreach": "chooses an implementation",
    "fused": "chooses an implementation",
    "capturable": "chooses an implementation",
    "differentiable": "chooses an implementation",
    "maximize": "training always minimises its loss",
}
"""Parameters of `torch.optim` classes that no component offers, each with the reason."""

FUSED_DEVICES = frozenset({"cpu", "cuda"})


def fused(parameters: Sequence[Tensor]) -> Literal[True] | None:
    """The `fused` argument of Adam and AdamW for these parameters.

    One kernel for the whole update takes three quarters of the default's time on a small network
    on a CPU, and computes the same. None, torch's own choice, where the kernel does not serve.
    """
    served = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in parameters)
    return True if served else None
