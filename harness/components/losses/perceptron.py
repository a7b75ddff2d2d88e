"""Rosenblatt's perceptron criterion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


def outputs(info: DataInfo) -> int:
    return 1 if info.task is Task.BINARY else len(info.classes)


def build(options: Options) -> LossFunction:
    import torch
    from torch.nn import functional

    def perceptron(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes], or [B, 1] for two classes. targets: [B] int64. Returns [B]."""
        if logits.shape[1] == 1:
            is_class = targets.unsqueeze(1)
        else:
            is_class = functional.one_hot(targets, logits.shape[1])
        margin = (2 * is_class - 1).to(logits.dtype) * logits
        # The perceptron updates at a margin of exactly 0, where zero weights start. relu has no
        # gradient there. NaN stays NaN.
        return torch.where(margin > 0, torch.zeros_like(margin), -margin).sum(dim=1)

    return perceptron


COMPONENTS = (
    Loss(
        name="perceptron",
        description="max(0, −y·z) with y = ±1; for several classes, the sum over one-vs-rest",
        reference="Rosenblatt, Psychological Review 65 (1958); scikit-learn's Perceptron",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        outputs=outputs,
        build=build,
    ),
)
