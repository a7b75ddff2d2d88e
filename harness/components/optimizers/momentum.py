"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options
from harness.components.shared.optimizers import Decay

if TYPE_CHECKING:
    import torch
    from torch import nn


class MomentumOptions(Options):
    momentum: Decay = Field(0.9, description="weight of the past updates")
    dampening: float = Field(
        0.0, ge=0, le=1, description="the gradient enters the velocity by 1 − dampening"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient")


def build(
    options: MomentumOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(parameters, lr=lr, **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="momentum",
        description="SGD with momentum: v ← μv + (1 − dampening)∇, θ ← θ − lr·v; v starts at ∇",
        reference="Polyak, USSR Computational Mathematics and Mathematical Physics 4 (1964)",
        options=MomentumOptions,
        tiny=({}, {"momentum": 0.5, "dampening": 0.1, "weight_decay": 0.1}),
        torch_class="SGD",
        build=build,
    ),
)
