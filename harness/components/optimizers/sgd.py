"""Stochastic gradient descent: plain, with momentum, and with Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import DecayOptions, NamedParameter, Optimizer

if TYPE_CHECKING:
    import torch


class SGDOptions(DecayOptions):
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")


class MomentumOptions(DecayOptions):
    momentum: float = Field(0.9, ge=0, lt=1, description="weight of the previous updates")
    dampening: float = Field(
        0.0, ge=0, le=1, description="the gradient enters the velocity times (1 − dampening)"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")


class NesterovOptions(DecayOptions):
    momentum: float = Field(0.9, gt=0, lt=1, description="weight of the previous updates")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")


def build(
    options: DecayOptions,
    named_parameters: Iterable[NamedParameter],
    lr: float,
    nesterov: bool = False,
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(named_parameters, lr=lr, nesterov=nesterov, **options.settings())


COMPONENTS = (
    Optimizer(
        name="sgd",
        description="stochastic gradient descent: θ ← θ − lr·∇",
        reference="Robbins and Monro, Annals of Mathematical Statistics 22 (1951)",
        options=SGDOptions,
        tiny=({}, {"weight_decay": 0.1, "no_decay": ["bias"]}),
        torch_class="SGD",
        build=build,
    ),
    Optimizer(
        name="momentum",
        description="SGD with momentum: v ← μv + (1 − dampening)∇, θ ← θ − lr·v; at first v = ∇",
        reference="Polyak, USSR Computational Mathematics and Mathematical Physics 4 (1964)",
        options=MomentumOptions,
        tiny=({}, {"momentum": 0.5, "dampening": 0.1, "weight_decay": 0.1, "no_decay": ["bias"]}),
        torch_class="SGD",
        build=build,
    ),
    Optimizer(
        name="nesterov",
        description="SGD with Nesterov's momentum: v ← μv + ∇, θ ← θ − lr·(∇ + μv)",
        reference="Sutskever, Martens, Dahl and Hinton, ICML 2013",
        options=NesterovOptions,
        tiny=({}, {"momentum": 0.5, "weight_decay": 0.1, "no_decay": ["norm"]}),
        torch_class="SGD",
        build=partial(build, nesterov=True),
    ),
)
