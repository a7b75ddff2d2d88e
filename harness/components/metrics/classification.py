"""Metrics of predicted classes: accuracy, top-5 accuracy, and precision, recall and F1.

The last three are macro-averaged: the mean over classes, or over labels. As in scikit-learn with
`zero_division=0`, a class that is neither in the targets nor predicted is left out of the mean, and
0/0 counts as 0; no label is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import Task
from harness.components.shared.metrics import (
    label_counts,
    nan_unless_finite,
    predicted_classes,
    stacked_metric,
)

if TYPE_CHECKING:
    from torch import Tensor


def accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    correct = (predicted_classes(outputs) == targets).sum(1).double()
    return nan_unless_finite(correct / targets.shape[1], outputs)


def top5(outputs: Tensor, targets: Tensor) -> Tensor:
    """Of equal logits, the first ranks higher, as in `accuracy`."""
    import torch

    true_class = targets.unsqueeze(2)
    true_logit = outputs.gather(2, true_class)
    earlier = torch.arange(outputs.shape[2], device=outputs.device) < true_class
    rank = ((outputs > true_logit) | ((outputs == true_logit) & earlier)).sum(2)
    return nan_unless_finite((rank < 5).sum(1).double() / targets.shape[1], outputs)


def precision(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_macro_averages(outputs, targets)[0], outputs)


def recall(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_macro_averages(outputs, targets)[1], outputs)


def f1(outputs: Tensor, targets: Tensor) -> Tensor:
    return nan_unless_finite(_macro_averages(outputs, targets)[2], outputs)


def confusion_matrices(outputs: Tensor, targets: Tensor) -> Tensor:
    """Returns counts [K, C, C] int64 on the CPU; rows are true classes, columns predicted ones.

    outputs: logits [K, N, O] of C = max(O, 2) classes. targets: [K, N].
    """
    import torch

    models, classes = len(outputs), max(outputs.shape[-1], 2)
    offsets = torch.arange(models, device=outputs.device).unsqueeze(1) * classes**2
    cells = offsets + targets.long() * classes + predicted_classes(outputs)
    counts = cells.flatten().cpu().bincount(minlength=models * classes**2)
    return counts.reshape(-1, classes, classes)


def _macro_averages(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns precision, recall and F1, [K] float64 each, on the CPU."""
    if targets.ndim == outputs.ndim:
        correct, predicted, true = label_counts(outputs, targets)
    else:
        matrix = confusion_matrices(outputs, targets).double()
        correct, predicted, true = matrix.diagonal(0, 1, 2), matrix.sum(1), matrix.sum(2)
    # Where a divisor is 0, so is the number of correct predictions.
    precision, recall = correct / predicted.clamp(min=1), correct / true.clamp(min=1)
    f1 = 2 * correct / (predicted + true).clamp(min=1)
    counted = (predicted + true > 0) | (targets.ndim == outputs.ndim)
    classes = counted.sum(1)
    return precision.sum(1) / classes, recall.sum(1) / classes, f1.sum(1) / classes


COMPONENTS = (
    stacked_metric(
        accuracy,
        description="fraction of the examples whose class is predicted",
        reference="https://scikit-learn.org/stable/modules/model_evaluation.html#accuracy-score",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        default_for=frozenset({Task.MULTICLASS, Task.BINARY}),
        direction="max",
        unit="fraction",
    ),
    stacked_metric(
        top5,
        description="fraction of the examples whose class is among the five likeliest",
        reference="Russakovsky et al., IJCV 115 (2015)",
        tasks=frozenset({Task.MULTICLASS}),
        direction="max",
        unit="fraction",
        min_classes=6,
    ),
    *(
        stacked_metric(
            metric,
            description=description,
            reference="Sokolova and Lapalme, Information Processing and Management 45 (2009)",
            tasks=frozenset({Task.MULTICLASS, Task.BINARY, Task.MULTILABEL}),
            direction="max",
            unit="fraction",
        )
        for metric, description in (
            (precision, "fraction of a class's predictions that are correct; mean over classes"),
            (recall, "fraction of a class's examples that are found; mean over classes"),
            (f1, "harmonic mean of precision and recall; mean over classes"),
        )
    ),
)
