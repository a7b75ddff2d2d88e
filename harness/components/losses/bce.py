"""Binary cross-entropy of a single logit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


def outputs(info: DataInfo) -> int:
    return 1


def build(options: Options) -> LossFunction:
    from torch.nn import functional

    def bce(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, 1], the logit of class 1. targets: [B] int64. Returns [B]."""
        logit = logits.squeeze(1)
        return functional.binary_cross_entropy_with_logits(
            logit, targets.to(logit.dtype), reduction="none"
        )

    return bce


COMPONENTS = (
    Loss(
        name="bce",
        description="binary cross-entropy of the sigmoid of a single logit",
        reference="Bishop, Pattern Recognition and Machine Learning (2006), 4.3.2",
        tasks=frozenset({Task.BINARY}),
        default_for=frozenset({Task.BINARY}),
        outputs=outputs,
        build=build,
    ),
)
