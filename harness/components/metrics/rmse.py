"""Root of the mean squared error."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.data import Task
from harness.kinds import Metric
from harness.kit.predictions import measurable, residuals

if TYPE_CHECKING:
    from torch import Tensor


def compute(outputs: Tensor, targets: Tensor) -> float:
    if not measurable(outputs):
        return nan
    error, _ = residuals(outputs, targets)
    return float(error.square().mean(0).sqrt().mean())


COMPONENTS = (
    Metric(
        name="rmse",
        description="√ of the mean of (prediction − target)², of each target; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-error",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target",
        compute=compute,
    ),
)
