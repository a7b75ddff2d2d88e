"""Metrics of labels, of which an example may have any number. A label is predicted where its logit
is above 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Task
from harness.components.shared.metrics import label_counts, nan_unless_finite, stacked_metric

if TYPE_CHECKING:
    from torch import Tensor


def subset_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    exact = ((outputs > 0) == (targets > 0)).all(2).sum(1).double()
    return nan_unless_finite(exact / targets.shape[1], outputs)


def label_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    correct = ((outputs > 0) == (targets > 0)).sum((1, 2)).double()
    return nan_unless_finite(correct / targets[0].numel(), outputs)


def micro_f1(outputs: Tensor, targets: Tensor) -> Tensor:
    """0 where no label is predicted and none is true, as in scikit-learn."""
    correct, predicted, true = (counts.sum(1) for counts in label_counts(outputs, targets))
    return nan_unless_finite(2 * correct / (predicted + true).clamp(min=1), outputs)


def mean_average_precision(outputs: Tensor, targets: Tensor) -> Tensor:
    """The area below the steps of the curve of precision over recall; examples of equal logits are
    one step. A label that no example has counts 0, as in scikit-learn."""
    import torch

    logits, order = outputs.detach().cpu().sort(dim=1, descending=True, stable=True)
    true = (targets.cpu() > 0).gather(1, order)
    found = true.cumsum(1).double()
    ranks = torch.arange(1, found.shape[1] + 1, dtype=torch.float64)[:, None]
    # The precision at the end of each run of equal logits, seen from each of its examples.
    precision = found / ranks
    ends = torch.ones_like(true)
    ends[:, :-1] = logits[:, 1:] != logits[:, :-1]
    positions = torch.where(ends, torch.arange(found.shape[1])[:, None], found.shape[1])
    end = positions.flip(1).cummin(1).values.flip(1)
    of_each = precision.gather(1, end.clamp(max=found.shape[1] - 1))
    average = (of_each * true).sum(1) / true.sum(1).clamp(min=1)
    return nan_unless_finite(average.mean(1), outputs)


COMPONENTS = tuple(
    stacked_metric(
        metric,
        description=description,
        reference=reference,
        tasks=frozenset({Task.MULTILABEL}),
        default_for=frozenset({Task.MULTILABEL} if is_default else ()),
        direction="max",
        unit="fraction",
    )
    for metric, is_default, description, reference in (
        (
            mean_average_precision,
            True,
            "precision at each example with a label, in order of its logits; mean over labels",
            "https://scikit-learn.org/stable/modules/model_evaluation.html#precision-recall-f-measure-metrics",
        ),
        (
            micro_f1,
            True,
            "harmonic mean of precision and recall of all labels together",
            "https://scikit-learn.org/stable/modules/model_evaluation.html#precision-recall-f-measure-metrics",
        ),
        (
            subset_accuracy,
            False,
            "fraction of the examples all of whose labels are predicted",
            "https://scikit-learn.org/stable/modules/model_evaluation.html#accuracy-score",
        ),
        (
            label_accuracy,
            False,
            "fraction of the labels of all examples that are predicted: 1 − Hamming loss",
            "https://scikit-learn.org/stable/modules/model_evaluation.html#hamming-loss",
        ),
    )
)
