"""What metrics share. Sums are computed in float64 on the CPU, as not every device has float64."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import TYPE_CHECKING, Any

from harness.components.base import Metric

if TYPE_CHECKING:
    from torch import Tensor


def stacked_metric(stacked: Callable[[Tensor, Tensor], Tensor], **fields: Any) -> Metric:
    """Returns a metric that has the function's name, and whose `compute` follows from `stacked`.

    fields: the other fields of `Metric`.
    """

    def compute(outputs: Tensor, targets: Tensor) -> float:
        if not len(outputs):
            return nan
        return float(stacked(outputs.unsqueeze(0), targets.unsqueeze(0))[0])

    return Metric(name=stacked.__name__, compute=compute, stacked=stacked, **fields)


def nan_unless_finite(values: Tensor, outputs: Tensor) -> Tensor:
    """Returns the values [K] as float64 on the CPU; NaN for a model whose outputs are not finite.

    outputs: [K, N, O].
    """
    import torch

    # A finite sum proves finite outputs, in less time than checking each of them. A sum that is not
    # finite may have overflowed.
    finite = outputs.flatten(1).sum(1).isfinite().cpu()
    for model in (~finite).nonzero().flatten().tolist():
        finite[model] = outputs[model].isfinite().all()
    return torch.where(finite, values.cpu().double(), nan)


def predicted_classes(outputs: Tensor) -> Tensor:
    """Returns the class numbers […, N] int64 of logits […, N, O].

    With a single logit, class 1 is predicted where it is above 0. Of equal logits, the first wins.
    """
    if outputs.shape[-1] == 1:
        return (outputs[..., 0] > 0).long()
    indices: Tensor = outputs.max(dim=-1).indices  # On a CPU, argmax takes twice as long.
    return indices


def label_counts(outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Returns how many examples have each label and are predicted to, are predicted to, and have
    it: [K, L] float64 each, on the CPU.

    outputs: logits [K, N, L]; a label is predicted where its logit is above 0. targets: [K, N, L].
    """
    predicted, true = outputs > 0, targets > 0
    counts = ((predicted & true).sum(1), predicted.sum(1), true.sum(1))
    correct, of_predicted, of_true = (count.cpu().double() for count in counts)
    return correct, of_predicted, of_true


def median_classes(outputs: Tensor) -> Tensor:
    """Returns the medians of ordered classes, [K, N] int64 on the CPU: the first class that an
    example is at least as likely to lie in or below as above.

    outputs: logits [K, N, C].
    """
    probabilities = outputs.detach().cpu().double().softmax(-1)
    not_above = probabilities.cumsum(-1)[..., :-1]
    # The logarithms of probabilities are rounded to float32; a tie is the lower class.
    return (not_above < 0.5 - 1e-6).sum(-1)
