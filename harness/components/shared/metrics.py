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
