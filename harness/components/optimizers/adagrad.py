"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options

if TYPE_CHECKING:
    import torch
    from torch import nn


class AdagradOptions(Options):
    lr_decay: float = Field(
        0.0, ge=0, description="divides lr by (1 + steps × lr_decay), in addition to any scheduler"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    initial_accumulator_value: float = Field(
        0.0, ge=0, description="initial value of the sum of squares"
    )
    eps: float = Field(1e-10, ge=0, description="added to the denominator")


def build(
    options: AdagradOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.Adagrad(parameters, lr=lr, **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="adagrad",
        description="θ ← θ − lr·∇/(√s + eps), with the sum s of all ∇² so far",
        reference="Duchi, Hazan and Singer, JMLR 12 (2011)",
        options=AdagradOptions,
        tiny=(
            {},
            {"lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.1, "eps": 1e-8},
        ),
        torch_class="Adagrad",
        build=build,
    ),
)
