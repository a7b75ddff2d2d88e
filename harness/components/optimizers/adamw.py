"""AdamW: Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Optimizer, Options
from harness.components.shared.optimizers import Betas, fused

if TYPE_CHECKING:
    import torch
    from torch import nn


class AdamWOptions(Options):
    betas: Betas = Field(
        (0.9, 0.999), description="decays of the averages of the gradient and of its square"
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(
        0.01, ge=0, description="shrinks the weights by lr × this at each step"
    )
    amsgrad: bool = Field(False, description="divide by the largest average of squares so far")


def build(
    options: AdamWOptions, parameters: Iterable[nn.Parameter], lr: float
) -> torch.optim.Optimizer:
    import torch

    tensors = list(parameters)
    return torch.optim.AdamW(tensors, lr=lr, fused=fused(tensors), **options.model_dump())


COMPONENTS = (
    Optimizer(
        name="adamw",
        description="Adam with decoupled weight decay: θ ← (1 − lr·λ)θ before the step",
        reference="Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101",
        options=AdamWOptions,
        tiny=({}, {"betas": [0.8, 0.9], "eps": 1e-6, "weight_decay": 0.1, "amsgrad": True}),
        torch_class="AdamW",
        build=build,
    ),
)
