"""A softmax in front of cross-entropy, which applies its own: a mistake, kept to be measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


def outputs(info: DataInfo) -> int:
    return len(info.classes)


def build(options: Options) -> LossFunction:
    from torch.nn import functional

    def softmax_twice(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B].

        Never below log(1 + (classes − 1)/e), however sure and right the model is, and its
        gradient vanishes where the model is sure and wrong.
        """
        return functional.cross_entropy(logits.softmax(dim=1), targets, reduction="none")

    return softmax_twice


COMPONENTS = (
    Loss(
        name="softmax_twice",
        description="cross-entropy of a softmax's output: a mistake common in tutorials",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        outputs=outputs,
        build=build,
    ),
)
