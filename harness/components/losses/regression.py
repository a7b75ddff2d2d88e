"""Losses of a regression and of an autoencoder: squared, absolute and Huber's error.

Each returns one value for each example: the mean over its targets.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import Field

from harness.components.base import Loss, LossFunction, Options, Task

if TYPE_CHECKING:
    from torch import Tensor

VALUES: Final = frozenset({Task.REGRESSION, Task.COUNT, Task.AUTOENCODING})


class HuberOptions(Options):
    delta: float = Field(
        1.0, gt=0, description="error from which the loss is linear, in units of the target"
    )


def build(function: str, options: Options) -> LossFunction:
    """function: the name of torch's, which takes the options as its arguments."""
    from torch.nn import functional

    error = partial(getattr(functional, function), reduction="none", **options.model_dump())

    def loss(predictions: Tensor, targets: Tensor) -> Tensor:
        """predictions: [B, T], or of any shape of T values. targets: [B, T]. Returns [B]."""
        errors: Tensor = error(predictions.flatten(1), targets)
        return errors.mean(dim=1)

    return loss


COMPONENTS = (
    Loss(
        name="mse",
        description="squared error, (prediction − target)²; mean over an example's targets",
        reference="Legendre, Nouvelles méthodes pour la détermination des orbites (1805)",
        tasks=VALUES,
        default_for=frozenset({Task.REGRESSION, Task.AUTOENCODING}),
        outputs=lambda info: info.targets,
        build=partial(build, "mse_loss"),
    ),
    Loss(
        name="l1",
        description="absolute error, |prediction − target|; mean over an example's targets",
        reference="Boscovich, De litteraria expeditione (1757)",
        tasks=VALUES,
        outputs=lambda info: info.targets,
        build=partial(build, "l1_loss"),
    ),
    Loss(
        name="huber",
        description="squared error up to delta, absolute error beyond",
        reference="Huber, Annals of Mathematical Statistics 35 (1964)",
        options=HuberOptions,
        tiny=({}, {"delta": 0.5}),
        tasks=VALUES,
        outputs=lambda info: info.targets,
        build=partial(build, "huber_loss"),
    ),
)
