"""Mean absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.predictions import of_one, residuals, where_measurable

if TYPE_CHECKING:
    from torch import Tensor


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    error, _ = residuals(outputs, targets)
    return where_measurable(error.abs().mean((1, 2)), outputs)


COMPONENTS = (
    Metric(
        name="mae",
        description="mean of |prediction − target|",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-absolute-error",
        tasks=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target",
        compute=of_one(stacked),
        stacked=stacked,
    ),
)
