"""Coefficient of determination."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.data import Task
from harness.kinds import Metric
from harness.kit.predictions import measurable, residuals

if TYPE_CHECKING:
    from torch import Tensor


def compute(outputs: Tensor, targets: Tensor) -> float:
    """1 − Σ(prediction − target)² / Σ(target − mean)²; NaN where a target is constant."""
    if not measurable(outputs):
        return nan
    error, wanted = residuals(outputs, targets)
    # By comparison, not by a variance, which rounding keeps from being 0.
    if bool((wanted == wanted[0]).all(0).any()):
        return nan
    spread = (wanted - wanted.mean(0)).square().sum(0)
    return float((1 - error.square().sum(0) / spread).mean())


COMPONENTS = (
    Metric(
        name="r2",
        description="part of the targets' variance that is explained; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#r2-score",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        direction="max",
        unit="fraction",
        compute=compute,
    ),
)
