"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options
from harness.components.shared.optimizers import Betas

if TYPE_CHECKING:
    import torch
    from torch import nn


class NAdamOptions(Options):
    betas: Betas = Field(
        (0.9, 0.999), description="decays of the averages of the gradient and of its square"
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient")
    momentum_decay: float = Field(
        4e-3, ge=0, description="ψ in μₜ = β₁(1 − 0.5·0.96^(tψ)): how fast momentum reaches β₁"
    )
    decoupled_weight_decay: bool = Field(
        False, description="weight decay on the weights themselves, as in adamw"
    )


def build(
    options: NAdamOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.NAdam(parameters, lr=lr, **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="nadam",
        description="Adam with Nesterov's momentum",
        reference="Dozat, ICLR 2016 workshop",
        options=NAdamOptions,
        tiny=(
            {},
            {
                "betas": [0.8, 0.9],
                "eps": 1e-6,
                "weight_decay": 0.1,
                "momentum_decay": 0.01,
                "decoupled_weight_decay": True,
            },
        ),
        torch_class="NAdam",
        build=build,
    ),
)
