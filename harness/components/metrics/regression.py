"""Metrics of a regression, of counts and of an autoencoder: mean errors, R² and a deviance."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING, Final

from harness.components.base import Task
from harness.components.shared.metrics import nan_unless_finite, stacked_metric

if TYPE_CHECKING:
    from torch import Tensor

VALUES: Final = frozenset({Task.REGRESSION, Task.COUNT})
AT_ONCE: Final = 1 << 24
"""The errors of more values, as those of an autoencoder's images, are summed a part at a time."""


def mae(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_mean(outputs, targets, lambda error: error.abs()), outputs)


def mse(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_mean(outputs, targets, lambda error: error.square()), outputs)


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


def poisson_deviance(outputs: Tensor, targets: Tensor) -> Tensor:
    """2 (t log(t / μ) − t + μ); NaN unless all predicted counts μ are above 0."""
    import torch

    errors, predicted = _errors(outputs, targets), outputs.detach().cpu().double()
    counts = targets.cpu().double()
    deviance = 2 * (torch.xlogy(counts, counts / predicted) + errors).mean((1, 2))
    return torch.where((predicted > 0).flatten(1).all(1), deviance, nan)


def _mean(outputs: Tensor, targets: Tensor, of: Callable[[Tensor], Tensor]) -> Tensor:
    """Returns the mean over all examples and targets of a function of their errors, [K]."""
    import torch

    if outputs.numel() <= AT_ONCE:
        return of(_errors(outputs, targets)).mean((1, 2))
    size = max(1, AT_ONCE // outputs[:, :1].numel())
    parts = zip(outputs.split(size, 1), targets.split(size, 1), strict=True)
    total = torch.zeros(len(outputs), dtype=torch.float64)
    for part in parts:
        total += of(_errors(*part)).sum((1, 2))
    return total / outputs[0].numel()


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
        tasks=VALUES | {Task.AUTOENCODING},
        default_for=frozenset({Task.COUNT}),
        direction="min",
        unit="target",
    ),
    stacked_metric(
        mse,
        description="mean of (prediction − target)²",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-error",
        tasks=VALUES | {Task.AUTOENCODING},
        default_for=frozenset({Task.AUTOENCODING}),
        direction="min",
        unit="target²",
    ),
    stacked_metric(
        rmse,
        description="√ of the mean of (prediction − target)² of each target; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-squared-error",
        tasks=VALUES,
        default_for=VALUES,
        direction="min",
        unit="target",
    ),
    stacked_metric(
        r2,
        description="fraction of the targets' variance that is explained; mean over targets",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#r2-score",
        tasks=VALUES,
        default_for=frozenset({Task.REGRESSION}),
        direction="max",
        unit="fraction",
    ),
    stacked_metric(
        poisson_deviance,
        description="twice what the likelihood of the counts lacks of the largest possible; mean",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#mean-tweedie-deviance",
        tasks=frozenset({Task.COUNT}),
        direction="min",
        unit="nats",
    ),
)
