"""Negative log-likelihood."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


def outputs(info: DataInfo) -> int:
    return len(info.classes)


def build(options: Options) -> LossFunction:
    from torch.nn import functional

    def nll(logits: Tensor, targets: Tensor) -> Tensor:
        """logits: [B, classes]. targets: [B] int64. Returns [B]."""
        return functional.nll_loss(functional.log_softmax(logits, dim=1), targets, reduction="none")

    return nll


COMPONENTS = (
    Loss(
        name="nll",
        description="negative log-likelihood of the log-softmax of the logits, taken in two steps",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.nn.NLLLoss.html",
        tasks=frozenset({Task.MULTICLASS, Task.BINARY}),
        outputs=outputs,
        build=build,
    ),
)
