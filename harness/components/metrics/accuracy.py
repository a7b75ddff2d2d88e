"""Accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.predictions import of_one, predicted_classes, where_measurable

if TYPE_CHECKING:
    from torch import Tensor


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    hits = (predicted_classes(outputs) == targets).sum(1).double()
    return where_measurable(hits / targets.shape[1], outputs)


COMPONENTS = (
    Metric(
        name="accuracy",
        description="part of the examples whose class is predicted",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#accuracy-score",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        default_for=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
        compute=of_one(stacked),
        stacked=stacked,
    ),
)
