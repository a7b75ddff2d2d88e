"""What a model's outputs say: probabilities, classes, who was taken for whom.

Metrics and figures share these. Sums are taken in double precision on the CPU, which every device
can be copied to and not every device has. Torch is imported inside the functions, as in components.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

SMALL = 1e-280
"""Sums of exponentials from which double precision begins to lose digits."""

Compute = Callable[["Tensor", "Tensor"], float]
Stacked = Callable[["Tensor", "Tensor"], "Tensor"]


def of_one(stacked: Stacked) -> Compute:
    """A metric's `compute` from its `stacked`: of a stack of one."""

    def compute(outputs: Tensor, targets: Tensor) -> float:
        if not len(outputs):
            return nan
        return float(stacked(outputs.unsqueeze(0), targets.unsqueeze(0))[0])

    return compute


def where_measurable(values: Tensor, outputs: Tensor) -> Tensor:
    """values [K] as float64 on the CPU, NaN for rows of outputs [K, N, O] that are not all
    finite."""
    import torch

    # Quicker than to ask every number, which is left to rows whose sum may have overflowed.
    sound = outputs.flatten(1).sum(1).isfinite().cpu()
    for row in (~sound).nonzero().flatten().tolist():
        sound[row] = outputs[row].isfinite().all()
    return torch.where(sound, values.cpu().double(), nan)


def predicted_classes(outputs: Tensor) -> Tensor:
    """The class numbers […, N] int64 of logits […, N, O].

    One logit: class 1 where it is above 0. Of equal logits the first wins.
    """
    if outputs.shape[-1] == 1:
        return (outputs[..., 0] > 0).long()
    indices: Tensor = outputs.max(dim=-1).indices  # On a CPU in half of argmax's time.
    return indices


def probabilities(outputs: Tensor) -> Tensor:
    """Probabilities [N, C] of logits [N, O]; one logit gives those of classes 0 and 1."""
    import torch

    if outputs.shape[1] == 1:
        # Both by the sigmoid: 1 − σ(x) loses what is small.
        return torch.cat([-outputs, outputs], dim=1).sigmoid()
    return outputs.softmax(dim=1)


def scores(outputs: Tensor) -> Tensor:
    """For each class, log(p / (1 − p)) of its probability: [N, C] float32 on the CPU.

    It ranks examples as the probability does, and still tells apart those that round to 1. Single
    precision comes last, so that equals do not come apart in rounding.
    """
    import torch

    exact = outputs.detach().cpu().double()
    if exact.shape[1] == 1:
        return torch.cat([-exact, exact], dim=1).float()
    top, best = exact.max(1, keepdim=True)
    exact = exact - top
    weight = exact.exp()
    # Taking it from the sum would lose digits for the likeliest class alone, whose others are
    # summed up instead.
    others = weight.scatter(1, best, 0.0).sum(1, keepdim=True)
    rest = (weight.sum(1, keepdim=True) - weight).scatter_(1, best, others).log_()
    small = (others < SMALL).squeeze(1)
    if small.any():
        left = exact[small].scatter(1, best[small], -torch.inf).logsumexp(1, keepdim=True)
        rest[small] = rest[small].scatter(1, best[small], left)
    return exact.sub_(rest).float()


def class_count(outputs: Tensor) -> int:
    """The number of classes that logits […, N, O] tell apart."""
    return max(outputs.shape[-1], 2)


def confusion_matrix(outputs: Tensor, targets: Tensor, classes: int) -> Tensor:
    """How often each class was taken for each: [classes, classes] int64 on the CPU.

    Rows are true classes, columns predicted ones. outputs: logits [N, O]; targets: [N] int64.
    """
    return confusion_matrices(outputs.unsqueeze(0), targets.unsqueeze(0), classes)[0]


def confusion_matrices(outputs: Tensor, targets: Tensor, classes: int) -> Tensor:
    """Of each of K: [K, classes, classes]. outputs: [K, N, O]; targets: [K, N]."""
    import torch

    first = torch.arange(len(outputs), device=outputs.device).unsqueeze(1) * classes**2
    pairs = first + targets.long() * classes + predicted_classes(outputs)
    counts = pairs.flatten().cpu().bincount(minlength=len(outputs) * classes**2)
    return counts.reshape(-1, classes, classes)


def agreement(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Means over classes of precision, recall and F1: [K] float64 each, on the CPU.

    Classes that are neither in the targets nor predicted are left out; a ratio of nothing to
    nothing is 0. Both are scikit-learn's way, with `zero_division=0`. outputs: logits [K, N, O].
    """
    matrix = confusion_matrices(outputs, targets, class_count(outputs)).double()
    hits, predicted, actual = matrix.diagonal(0, 1, 2), matrix.sum(1), matrix.sum(2)
    # Where a divisor is 0 its hits are too.
    precision, recall = hits / predicted.clamp(min=1), hits / actual.clamp(min=1)
    f1 = 2 * hits / (predicted + actual).clamp(min=1)
    seen = (predicted + actual > 0).sum(1)
    return precision.sum(1) / seen, recall.sum(1) / seen, f1.sum(1) / seen


def residuals(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """outputs − targets, and the targets: both [K, N, T] float64 on the CPU.

    Raises ValueError where shapes differ, which broadcasting would hide.
    """
    if outputs.shape != targets.shape:
        one, other = list(outputs.shape[1:]), list(targets.shape[1:])
        raise ValueError(f"outputs {one} and targets {other} differ")
    wanted = targets.cpu().double()
    return outputs.detach().cpu().double() - wanted, wanted
