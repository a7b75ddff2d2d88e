"""Root of the mean squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.predictions import of_one, residuals, where_measurable

if TYPE_CHECKING:
    from torch import Tensor


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    error, _ = residuals(outputs, targets)
    return where_measurable(error.square().mean(1).sqrt().mean(1), outputs)


COMPONENTS = (
    Metric(
        name="rmse",
        description="√ of the mean of (prediction − target)², of each target; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-error",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target",
        compute=of_one(stacked),
        stacked=stacked,
    ),
)
