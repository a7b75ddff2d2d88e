"""Cross-entropy of softmax probabilities."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.data import DataInfo, Task
from harness.kinds import Loss, LossFunction, Options

if TYPE_CHECKING:
    from torch import Tensor


class CrossEntropyOptions(Options):
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="share of each target spread evenly over all classes"
    )


def outputs(info: DataInfo) -> int:
    return len(info.classes)


def build(options: CrossEntropyOptions) -> LossFunction:
    from torch.nn import functional

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B]."""
        return functional.cross_entropy(
            logits, targets, reduction="none", label_smoothing=options.label_smoothing
        )

    return cross_entropy


COMPONENTS = (
    Loss(
        name="cross_entropy",
        description="cross-entropy of the softmax of the logits, one logit for each class",
        reference="Szegedy et al., CVPR 2016 (label smoothing)",
        options=CrossEntropyOptions,
        tiny=({}, {"label_smoothing": 0.1}),
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        default_for=frozenset({Task.MULTICLASS}),
        outputs=outputs,
        build=build,
    ),
)
