"""Squared error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


def outputs(info: DataInfo) -> int:
    return info.targets


def build(options: Options) -> LossFunction:
    from torch.nn import functional

    def mse(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions, targets: [B, T]. Returns [B], the mean over an example's targets."""
        return functional.mse_loss(predictions, targets, reduction="none").mean(dim=1)

    return mse


COMPONENTS = (
    Loss(
        name="mse",
        description="squared error, the mean over an example's targets",
        reference="Legendre, Nouvelles méthodes pour la détermination des orbites (1805)",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        outputs=outputs,
        build=build,
    ),
)
