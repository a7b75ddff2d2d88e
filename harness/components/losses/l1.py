"""Absolute error."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


def outputs(info: DataInfo) -> int:
    return info.targets


def build(options: Options) -> LossFunction:
    from torch.nn import functional

    def l1(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions, targets: [B, T]. Returns [B], the mean over an example's targets."""
        return functional.l1_loss(predictions, targets, reduction="none").mean(dim=1)

    return l1


COMPONENTS = (
    Loss(
        name="l1",
        description="absolute error, the mean over an example's targets",
        reference="Boscovich, De litteraria expeditione (1757)",
        tasks=frozenset({Task.REGRESSION}),
        outputs=outputs,
        build=build,
    ),
)
