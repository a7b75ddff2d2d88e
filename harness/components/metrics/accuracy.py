"""Accuracy."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.data import Task
from harness.kinds import Metric
from harness.kit.predictions import measurable, predicted_classes

if TYPE_CHECKING:
    from torch import Tensor


def compute(outputs: Tensor, targets: Tensor) -> float:
    if not measurable(outputs):
        return nan
    return int((predicted_classes(outputs) == targets).sum()) / len(targets)


COMPONENTS = (
    Metric(
        name="accuracy",
        description="part of the examples whose class is predicted",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#accuracy-score",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        default_for=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
        compute=compute,
    ),
)
