"""Accuracy and top-5 accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.metrics import from_stacked, nan_unless_finite, predicted_classes

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    correct = (predicted_classes(outputs) == targets).sum(1).double()
    return nan_unless_finite(correct / targets.shape[1], outputs)


def top5(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of equal logits, the first ranks higher, as in `accuracy`."""
    import torch

    true_class = targets.unsqueeze(2)
    true_logit = outputs.gather(2, true_class)
    earlier = torch.arange(outputs.shape[2], device=outputs.device) < true_class
    rank = ((outputs > true_logit) | ((outputs == true_logit) & earlier)).sum(2)
    return nan_unless_finite((rank < 5).sum(1).double() / targets.shape[1], outputs)


COMPONENTS = (
    Metric(
        name="accuracy",
        description="fraction of the examples whose class is predicted",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#accuracy-score",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        default_for=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
        compute=from_stacked(accuracy),
        stacked=accuracy,
    ),
    Metric(
        name="top5",
        description="fraction of the examples whose class is among the five likeliest",
        reference="Russakovsky et al., IJCV 115 (2015)",
        tasks=frozenset({Task.MULTICLASS}),
        direction="max",
        unit="fraction",
        compute=from_stacked(top5),
        stacked=top5,
        min_classes=6,
    ),
)
