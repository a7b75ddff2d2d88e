"""Stochastic gradient descent with Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options

if TYPE_CHECKING:
    import torch
    from torch import nn


class NesterovOptions(Options):
    momentum: float = Field(0.9, gt=0, lt=1, description="weight of the past updates")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient")


def build(
    options: NesterovOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(parameters, lr=lr, nesterov=True, **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="nesterov",
        description="SGD with Nesterov's momentum: v ← μv + ∇, θ ← θ − lr·(∇ + μv)",
        reference="Sutskever, Martens, Dahl and Hinton, ICML 2013",
        options=NesterovOptions,
        tiny=({}, {"momentum": 0.5, "weight_decay": 0.1}),
        torch_class="SGD",
        build=build,
    ),
)
