"""Precision and recall of each class, which several metrics average."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.predictions import class_count, confusion_matrix

if TYPE_CHECKING:
    from torch import Tensor


def by_class(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Precision, recall and F1 of each class, [C'] float64 each, on the CPU.

    Classes that are neither in the targets nor predicted are left out; a ratio of nothing to
    nothing is 0. Both are scikit-learn's way, with `zero_division=0`.
    """
    matrix = confusion_matrix(outputs, targets, class_count(outputs)).double()
    hits, predicted, actual = matrix.diagonal(), matrix.sum(0), matrix.sum(1)
    seen = predicted + actual > 0
    hits, predicted, actual = hits[seen], predicted[seen], actual[seen]
    # Where a divisor is 0 its hits are too.
    precision, recall = hits / predicted.clamp(min=1), hits / actual.clamp(min=1)
    return precision, recall, 2 * hits / (predicted + actual)
