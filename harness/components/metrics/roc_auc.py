"""Area under the ROC curve."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import Task
from harness.components.shared.metrics import nan_unless_finite, stacked_metric

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

SMALL: Final = 1e-280
"""Sums of exponentials below this lose digits in double precision."""


def roc_auc(outputs: Tensor, targets: Tensor) -> Tensor:
    """The area for class 1 of two; of more classes or of labels, the mean over one-vs-rest.

    NaN if a class has no examples, or all of them.
    """
    import torch

    of_labels = targets.ndim == outputs.ndim
    areas = [
        _mean_area_of_labels(logits.detach().cpu().numpy(), true)
        if of_labels
        else _mean_area(log_odds(logits).numpy(), true)
        for logits, true in zip(outputs, targets.cpu().numpy(), strict=True)
    ]
    return nan_unless_finite(torch.tensor(areas, dtype=torch.float64), outputs)


def log_odds(outputs: Tensor) -> Tensor:
    """Returns log(p / (1 − p)) of each class's probability p, [N, C] float32 on the CPU.

    outputs: logits [N, O]; a single logit is that of class 1 of two.

    Log-odds rank examples as probabilities do, and still distinguish probabilities that round to 1.
    They are rounded to float32 at the end, so that equal values do not differ by rounding errors.
    """
    import torch

    exact = outputs.detach().cpu().double()
    if exact.shape[1] == 1:
        return torch.cat([-exact, exact], dim=1).float()
    top, likeliest = exact.max(1, keepdim=True)
    exact = exact - top
    weights = exact.exp()
    # The weight of all other classes is the sum minus a class's own weight. For the likeliest class
    # that difference loses digits, so its other classes are summed instead.
    others = weights.scatter(1, likeliest, 0.0).sum(1, keepdim=True)
    rest = (weights.sum(1, keepdim=True) - weights).scatter_(1, likeliest, others).log_()
    small = (others < SMALL).squeeze(1)
    if small.any():
        without_top = exact[small].scatter(1, likeliest[small], -torch.inf)
        log_others = without_top.logsumexp(1, keepdim=True)
        rest[small] = rest[small].scatter(1, likeliest[small], log_others)
    return exact.sub_(rest).float()


def _mean_area(scores: NDArray[Any], classes: NDArray[Any]) -> float:
    """scores: [N, C]. classes: the true ones, [N]."""
    if scores.shape[1] == 2:
        return _area(scores[:, 1], classes == 1)
    areas = [_area(scores[:, c], classes == c) for c in range(scores.shape[1])]
    return sum(areas) / len(areas)


def _mean_area_of_labels(scores: NDArray[Any], labels: NDArray[Any]) -> float:
    """scores, labels: [N, L]."""
    areas = [_area(*of_label) for of_label in zip(scores.T, labels.T > 0, strict=True)]
    return sum(areas) / len(areas)


def _area(scores: NDArray[Any], positive: NDArray[Any]) -> float:
    """Returns the Mann–Whitney statistic: how often a positive example scores above a negative one.

    A tie counts half. scores: [N]. positive: [N] bool.
    """
    import numpy as np

    positives = np.sort(scores[positive])
    n_positive, n_negative = len(positives), len(scores) - len(positives)
    if not n_positive or not n_negative:
        return nan
    everyone = np.sort(scores)
    # Twice the rank of each positive among all, with ties at their mean rank: the scores below it,
    # plus the scores not above it.
    below = everyone.searchsorted(positives, "left").sum()
    not_above = everyone.searchsorted(positives, "right").sum()
    wins = (int(below + not_above) + n_positive) / 2 - n_positive * (n_positive + 1) / 2
    return wins / (n_positive * n_negative)


COMPONENTS = (
    stacked_metric(
        roc_auc,
        description="probability that an example of a class scores above one of the rest; mean "
        "over classes or labels",
        reference="Hanley and McNeil, Radiology 143 (1982)",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY, Task.MULTILABEL}),
        direction="max",
        unit="fraction",
    ),
)
