"""Adam. With decoupled weight decay it is `adamw`, under that name alone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options
from harness.components.shared.optimizers import Betas, fused

if TYPE_CHECKING:
    import torch
    from torch import nn


class AdamOptions(Options):
    betas: Betas = Field(
        (0.9, 0.999), description="decays of the averages of the gradient and of its square"
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty added to the gradient")
    amsgrad: bool = Field(False, description="divide by the largest average of squares so far")


def build(
    options: AdamOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    tensors = list(parameters)
    return torch.optim.Adam(tensors, lr=lr, fused=fused(tensors), **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="adam",
        description="Adam: steps by m̂/(√v̂ + eps), running averages of the gradient and its square",
        reference="Kingma and Ba, ICLR 2015, arXiv:1412.6980",
        options=AdamOptions,
        tiny=({}, {"betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True}),
        torch_class="Adam",
        build=build,
    ),
)
