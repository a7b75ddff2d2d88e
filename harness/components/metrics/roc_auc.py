"""Area under the ROC curve."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any

from harness.components.base import Metric, Task
from harness.components.shared.predictions import of_one, scores, where_measurable

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def stacked(outputs: Tensor, targets: Tensor) -> Tensor:
    """For two classes that of class 1; for more the mean of each class against the rest.

    NaN where some class has no examples, or has all.
    """
    import torch

    wanted = targets.cpu().numpy()
    areas = [_mean_area(scores(row).numpy(), own) for row, own in zip(outputs, wanted, strict=True)]
    return where_measurable(torch.tensor(areas, dtype=torch.float64), outputs)


def _mean_area(by_class: NDArray[Any], wanted: NDArray[Any]) -> float:
    """by_class: scores [N, C]. wanted: [N]."""
    if by_class.shape[1] == 2:
        return _area(by_class[:, 1], wanted == 1)
    areas = [_area(by_class[:, c], wanted == c) for c in range(by_class.shape[1])]
    return sum(areas) / len(areas)


def _area(score: NDArray[Any], positive: NDArray[Any]) -> float:
    """The Mann–Whitney statistic: how often a positive scores above a negative; half for a tie.

    score: [N]. positive: [N] bool.
    """
    import numpy as np

    mine = np.sort(score[positive])
    n_positive, n_negative = len(mine), len(score) - len(mine)
    if not n_positive or not n_negative:
        return nan
    everyone = np.sort(score)
    # Twice a positive's rank among all, ties at their mean: those below it and those not above it.
    twice = everyone.searchsorted(mine, "left").sum() + everyone.searchsorted(mine, "right").sum()
    above = (int(twice) + n_positive) / 2 - n_positive * (n_positive + 1) / 2
    return above / (n_positive * n_negative)


COMPONENTS = (
    Metric(
        name="roc_auc",
        description="chance that an example of a class scores above one of the rest; mean over "
        "classes",
        reference="Hanley and McNeil, Radiology 143 (1982)",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
        compute=of_one(stacked),
        stacked=stacked,
    ),
)
