"""Cross-entropy of softmax probabilities."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


FEW_CLASSES, MANY_EXAMPLES = 16, 512
"""Below and from which torch's softmax on a CPU takes a quarter of the time with the examples side
by side instead of the classes, whose few numbers fill no vector register."""


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
        on_cpu = logits.device.type == "cpu"
        if on_cpu and logits.shape[1] < FEW_CLASSES and len(logits) >= MANY_EXAMPLES:
            return of_each(logits.t().unsqueeze(0), targets.unsqueeze(0))[0]
        return of_each(logits, targets)

    of_each = partial(
        functional.cross_entropy, reduction="none", label_smoothing=options.label_smoothing
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
