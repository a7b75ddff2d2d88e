"""Metrics of ordered classes. A class counts as its rank; the predicted one is the median."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.components.base import Task
from harness.components.shared.metrics import median_classes, nan_unless_finite, stacked_metric

if TYPE_CHECKING:
    from torch import Tensor


def rank_mae(outputs: Tensor, targets: Tensor) -> Tensor:
    errors = (median_classes(outputs) - targets.cpu()).abs().double()
    return nan_unless_finite(errors.mean(1), outputs)


def rank_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    correct = (median_classes(outputs) == targets.cpu()).double()
    return nan_unless_finite(correct.mean(1), outputs)


def qwk(outputs: Tensor, targets: Tensor) -> Tensor:
    """1 − Σ(p − t)² / Σ(p − t')² over all pairs of a prediction p with any example's class t'.

    NaN if all classes and all predictions are one.
    """
    import torch

    predicted, true = median_classes(outputs).double(), targets.cpu().double()
    observed = (predicted - true).square().mean(1)
    # The mean over all pairs is that of the squares, less what the two have in common.
    squares = predicted.square().mean(1) + true.square().mean(1)
    expected = squares - 2 * predicted.mean(1) * true.mean(1)
    same = ((predicted == predicted[:, :1]) & (true == predicted[:, :1])).all(1)
    return nan_unless_finite(torch.where(same, nan, 1 - observed / expected), outputs)


COMPONENTS = tuple(
    stacked_metric(
        metric,
        description=description,
        reference=reference,
        tasks=frozenset({Task.ORDINAL}),
        default_for=frozenset({Task.ORDINAL} if is_default else ()),
        direction=direction,
        unit=unit,
    )
    for metric, is_default, direction, unit, description, reference in (
        (
            qwk,
            True,
            "max",
            "fraction",
            "quadratic weighted kappa: agreement beyond chance, where far ranks disagree more",
            "Cohen, Psychological Bulletin 70 (1968)",
        ),
        (
            rank_mae,
            True,
            "min",
            "ranks",
            "mean of |rank of the predicted class − rank of the class|",
            "Gaudette and Japkowicz, Canadian AI 2009",
        ),
        (
            rank_accuracy,
            False,
            "max",
            "fraction",
            "fraction of the examples whose class is predicted",
            "https://scikit-learn.org/stable/modules/model_evaluation.html#accuracy-score",
        ),
    )
)
