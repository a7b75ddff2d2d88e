"""What a model's outputs say: probabilities, classes, who was taken for whom.

Metrics and figures share these. Sums are taken in double precision on the CPU, which every device
can be copied to and not every device has. Torch is imported inside the functions, as in components.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def predicted_classes(outputs: Tensor) -> Tensor:
    """The class numbers [N] int64 of logits [N, O].

    One logit: class 1 where it is above 0. Of equal logits the first wins.
    """
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0).long()
    return outputs.argmax(dim=1)


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
    log_p = exact.log_softmax(1)
    odds = log_p - (-log_p.exp()).log1p()
    # 1 − p is only lost for the likeliest class, of which the others can be summed up instead.
    best = exact.argmax(1, keepdim=True)
    rest = exact.scatter(1, best, -torch.inf).logsumexp(1, keepdim=True)
    return odds.scatter(1, best, exact.gather(1, best) - rest).float()


def class_count(outputs: Tensor) -> int:
    """The number of classes that logits [N, O] tell apart."""
    return max(outputs.shape[1], 2)


def confusion_matrix(outputs: Tensor, targets: Tensor, classes: int) -> Tensor:
    """How often each class was taken for each: [classes, classes] int64 on the CPU.

    Rows are true classes, columns predicted ones. outputs: logits [N, O]; targets: [N] int64.
    """
    pairs = targets.long() * classes + predicted_classes(outputs)
    return pairs.cpu().bincount(minlength=classes**2).reshape(classes, classes)


def agreement(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def measurable(outputs: Tensor) -> bool:
    """Whether there is anything to measure: examples, and finite outputs for all of them."""
    return len(outputs) > 0 and bool(outputs.isfinite().all())


def residuals(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """outputs − targets, and the targets: both [N, T] float64 on the CPU.

    Raises ValueError where shapes differ, which broadcasting would hide.
    """
    if outputs.shape != targets.shape:
        raise ValueError(f"outputs {list(outputs.shape)} and targets {list(targets.shape)} differ")
    wanted = targets.cpu().double()
    return outputs.detach().cpu().double() - wanted, wanted
