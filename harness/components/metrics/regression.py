"""Metrics of a regression: mean absolute and squared errors, and R²."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.components.base import Task
from harness.components.shared.metrics import nan_unless_finite, stacked_metric

if TYPE_CHECKING:
    from torch import Tensor


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_errors(outputs, targets).abs().mean((1, 2)), outputs)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_errors(outputs, targets).square().mean((1, 2)), outputs)


def rmse(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_errors(outputs, targets).square().mean(1).sqrt().mean(1), outputs)


def r2(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ(prediction − target)² / Σ(target − mean)²; NaN if a target is constant."""
    import torch

    errors, values = _errors(outputs, targets), targets.cpu().double()
    # Compared, as rounding may keep the variance of a constant from being 0.
    constant = (values == values[:, :1]).all(1).any(1)
    variation = (values - values.mean(1, keepdim=True)).square().sum(1)
    r_squared = (1 - errors.square().sum(1) / variation).mean(1)
    return nan_unless_finite(torch.where(constant, nan, r_squared), outputs)


def _errors(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns outputs − targets, [K, N, T] float64 on the CPU.

    Raises ValueError if the shapes differ, which broadcasting would hide.
    """
    if outputs.shape != targets.shape:
        shapes = list(outputs.shape[1:]), list(targets.shape[1:])
        raise ValueError(f"outputs {shapes[0]} and targets {shapes[1]} differ")
    return outputs.detach().cpu().double() - targets.cpu().double()


COMPONENTS = (
    stacked_metric(
        mae,
        description="mean of |prediction − target|",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-absolute-error",
        tasks=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target",
    ),
    stacked_metric(
        mse,
        description="mean of (prediction − target)²",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-error",
        tasks=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target²",
    ),
    stacked_metric(
        rmse,
        description="√ of the mean of (prediction − target)² of each target; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-error",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        direction="min",
        unit="target",
    ),
    stacked_metric(
        r2,
        description="fraction of the targets' variance that is explained; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#r2-score",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        direction="max",
        unit="fraction",
    ),
)
