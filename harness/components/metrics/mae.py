"""Mean absolute error."""

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
    return float(error.abs().mean())


COMPONENTS = (
    Metric(
        name="mae",
        description="mean of |prediction − target|",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-absolute-error",
        tasks=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target",
        compute=compute,
    ),
)
