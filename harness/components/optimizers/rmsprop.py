"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options

if TYPE_CHECKING:
    import torch
    from torch import nn


class RMSpropOptions(Options):
    alpha: float = Field(
        0.99, ge=0, lt=1, description="decay rate of the running average of squared gradients"
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    momentum: float = Field(0.0, ge=0, lt=1, description="weight of the previous updates")
    centered: bool = Field(
        False, description="divide by the gradient's estimated standard deviation instead"
    )


def build(
    options: RMSpropOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.RMSprop(parameters, lr=lr, **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="rmsprop",
        description="θ ← θ − lr·∇/(√v + eps), with a running average v of ∇²",
        reference="Tieleman and Hinton, COURSERA: Neural Networks for Machine Learning 6.5 (2012)",
        options=RMSpropOptions,
        tiny=(
            {},
            {"alpha": 0.9, "eps": 1e-6, "weight_decay": 0.1, "momentum": 0.5, "centered": True},
        ),
        torch_class="RMSprop",
        build=build,
    ),
)
