"""Plain stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options

if TYPE_CHECKING:
    import torch
    from torch import nn


class SGDOptions(Options):
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient")


def build(
    options: SGDOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(parameters, lr=lr, weight_decay=options.weight_decay)


COMPONENTS = (
    Optimizer(
        name="sgd",
        description="stochastic gradient descent: θ ← θ − lr·∇",
        reference="Robbins and Monro, Annals of Mathematical Statistics 22 (1951)",
        options=SGDOptions,
        tiny=({}, {"weight_decay": 0.1}),
        torch_class="SGD",
        build=build,
    ),
)
