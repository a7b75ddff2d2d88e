"""Area under the ROC curve."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING

from harness.data import Task
from harness.kinds import Metric
from harness.kit.predictions import measurable, scores

if TYPE_CHECKING:
    from torch import Tensor


def compute(outputs: Tensor, targets: Tensor) -> float:
    """For two classes that of class 1; for more the mean of each class against the rest.

    NaN where some class has no examples, or has all.
    """
    if not measurable(outputs):
        return nan
    by_class, wanted = scores(outputs), targets.cpu()
    classes = (1,) if by_class.shape[1] == 2 else range(by_class.shape[1])
    areas = [_area(by_class[:, c], wanted == c) for c in classes]
    return sum(areas) / len(areas)


def _area(score: Tensor, positive: Tensor) -> float:
    """The Mann–Whitney statistic: how often a positive scores above a negative; half for a tie.

    score: [N]. positive: [N] bool.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return nan
    _, level, count = score.unique(return_inverse=True, return_counts=True)
    last = count.cumsum(0).double()
    rank = last - (count - 1) / 2
    above = float(rank[level[positive]].sum()) - n_positive * (n_positive + 1) / 2
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
        compute=compute,
    ),
)
