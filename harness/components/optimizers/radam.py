"""RAdam: Adam with a rectified adaptive rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options
from harness.components.shared.optimizers import Betas

if TYPE_CHECKING:
    import torch
    from torch import nn


class RAdamOptions(Options):
    betas: Betas = Field(
        (0.9, 0.999), description="decays of the averages of the gradient and of its square"
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient")
    decoupled_weight_decay: bool = Field(
        False, description="weight decay on the weights themselves, as in adamw"
    )


def build(
    options: RAdamOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    return torch.optim.RAdam(parameters, lr=lr, **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="radam",
        description="Adam, its rate held back while the average of squares is still uncertain",
        reference="Liu et al., ICLR 2020, arXiv:1908.03265",
        options=RAdamOptions,
        tiny=(
            {},
            {
                "betas": [0.8, 0.9],
                "eps": 1e-6,
                "weight_decay": 0.1,
                "decoupled_weight_decay": True,
            },
        ),
        torch_class="RAdam",
        build=build,
    ),
)
