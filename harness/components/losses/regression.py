"""Losses of a regression: squared, absolute and Huber's error.

Each returns one value for each example: the mean over its targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DataInfo, Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor


class HuberOptions(Options):
    delta: float = Field(
        1.0, gt=0, description="error from which the loss is linear, in units of the target"
    )


def outputs(info: DataInfo) -> int:
    return info.targets


def build_mse(options: Options) -> LossFunction:
    from torch.nn import functional

    def mse(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions, targets: [B, T]. Returns [B]."""
        return functional.mse_loss(predictions, targets, reduction="none").mean(dim=1)

    return mse


def build_l1(options: Options) -> LossFunction:
    from torch.nn import functional

    def l1(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions, targets: [B, T]. Returns [B]."""
        return functional.l1_loss(predictions, targets, reduction="none").mean(dim=1)

    return l1


def build_huber(options: HuberOptions) -> LossFunction:
    from torch.nn import functional

    def huber(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions, targets: [B, T]. Returns [B]."""
        errors = functional.huber_loss(predictions, targets, reduction="none", delta=options.delta)
        return errors.mean(dim=1)

    return huber


COMPONENTS = (
    Loss(
        name="mse",
        description="squared error, (prediction − target)²; mean over an example's targets",
        reference="Legendre, Nouvelles méthodes pour la détermination des orbites (1805)",
        tasks=frozenset({Task.REGRESSION}),
        default_for=frozenset({Task.REGRESSION}),
        outputs=outputs,
        build=build_mse,
    ),
    Loss(
        name="l1",
        description="absolute error, |prediction − target|; mean over an example's targets",
        reference="Boscovich, De litteraria expeditione (1757)",
        tasks=frozenset({Task.REGRESSION}),
        outputs=outputs,
        build=build_l1,
    ),
    Loss(
        name="huber",
        description="squared error up to delta, absolute error beyond",
        reference="Huber, Annals of Mathematical Statistics 35 (1964)",
        options=HuberOptions,
        tiny=({}, {"delta": 0.5}),
        tasks=frozenset({Task.REGRESSION}),
        outputs=outputs,
        build=build_huber,
    ),
)
