"""Huber's loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


class HuberOptions(Options):
    delta: float = Field(
        1.0, gt=0, description="error at which it turns from squared to absolute, in target units"
    )


def outputs(info: DataInfo) -> int:
    return info.targets


def build(options: HuberOptions) -> LossFunction:
    from torch.nn import functional

    def huber(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions, targets: [B, T]. Returns [B], the mean over an example's targets."""
        each = functional.huber_loss(predictions, targets, reduction="none", delta=options.delta)
        return each.mean(dim=1)

    return huber


COMPONENTS = (
    Loss(
        name="huber",
        description="squared error near zero and absolute error beyond delta",
        reference="Huber, Annals of Mathematical Statistics 35 (1964)",
        options=HuberOptions,
        tiny=({}, {"delta": 0.5}),
        tasks=frozenset({Task.REGRESSION}),
        outputs=outputs,
        build=build,
    ),
)
