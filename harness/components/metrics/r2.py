"""Coefficient of determination."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.components.base import Metric, Task
from harness.components.shared.predictions import of_one, residuals, where_measurable

if TYPE_CHECKING:
    from torch import Tensor


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ(prediction − target)² / Σ(target − mean)²; NaN where a target is constant."""
    import torch

    error, wanted = residuals(outputs, targets)
    # By comparison, not by a variance, which rounding keeps from being 0.
    constant = (wanted == wanted[:, :1]).all(1).any(1)
    spread = (wanted - wanted.mean(1, keepdim=True)).square().sum(1)
    values = (1 - error.square().sum(1) / spread).mean(1)
    return where_measurable(torch.where(constant, nan, values), outputs)


COMPONENTS = (
    Metric(
        name="r2",
        description="part of the targets' variance that is explained; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#r2-score",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        direction="max",
        unit="fraction",
        compute=of_one(stacked),
        stacked=stacked,
    ),
)
