"""Adaptive learning rates: Adagrad, RMSprop, Adam and its variants AdamW, NAdam and RAdam.

Adam with decoupled weight decay is registered as `adamw` only: a configuration has one name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import Field

from harness.components.base import DecayOptions, NamedParameter, Optimizer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Decay = Annotated[float, Field(ge=0, lt=1)]

FUSED_DEVICES: Final = frozenset({"cpu", "cuda"})


class AdagradOptions(DecayOptions):
    lr_decay: float = Field(
        0.0, ge=0, description="divides lr by (1 + steps × lr_decay), in addition to any scheduler"
    )
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    initial_accumulator_value: float = Field(
        0.0, ge=0, description="initial value of the sum of squares"
    )
    eps: float = Field(1e-10, ge=0, description="added to the denominator")


class RMSpropOptions(DecayOptions):
    alpha: float = Field(
        0.99, ge=0, lt=1, description="decay rate of the running average of squared gradients"
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")
    momentum: float = Field(0.0, ge=0, lt=1, description="weight of the previous updates")
    centered: bool = Field(
        False, description="divide by the gradient's estimated standard deviation instead"
    )


class MomentsOptions(DecayOptions):
    betas: Annotated[tuple[Decay, Decay], Field(strict=False)] = Field(
        (0.9, 0.999),
        description="decay rates of the running averages of the gradient and of its square",
    )
    eps: float = Field(1e-8, ge=0, description="added to the denominator")
    weight_decay: float = Field(0.0, ge=0, description="L2 penalty, added to the gradient")


class AdamOptions(MomentsOptions):
    amsgrad: bool = Field(False, description="divide by the largest average of squares so far")


class AdamWOptions(AdamOptions):
    weight_decay: float = Field(
        0.01, ge=0, description="each step shrinks the weights by lr × weight_decay"
    )


class RAdamOptions(MomentsOptions):
    decoupled_weight_decay: bool = Field(
        False, description="apply weight decay to the weights directly, as adamw does"
    )


class NAdamOptions(MomentsOptions):
    momentum_decay: float = Field(
        4e-3, ge=0, description="ψ in μₜ = β₁(1 − 0.5·0.96^(tψ)): how fast momentum reaches β₁"
    )
    decoupled_weight_decay: bool = Field(
        False, description="apply weight decay to the weights directly, as adamw does"
    )


def fused(parameters: Sequence[Tensor]) -> Literal[True] | None:
    """Returns the argument `fused` of Adam and AdamW for these parameters.

    On a CPU, the fused kernel updates a small network in three quarters of the time, with the same
    result. Returns None, torch's own choice, if the kernel does not support the parameters.
    """
    supported = all(p.device.type in FUSED_DEVICES and p.is_floating_point() for p in parameters)
    return True if supported else None


def build(
    torch_class: str,
    options: DecayOptions,
    named_parameters: Iterable[NamedParameter],
    lr: float,
) -> torch.optim.Optimizer:
    import torch

    pairs = list(named_parameters)
    settings = options.settings()
    if torch_class in ("Adam", "AdamW"):
        settings["fused"] = fused([parameter for _, parameter in pairs])
    optimizer: torch.optim.Optimizer = getattr(torch.optim, torch_class)(pairs, lr=lr, **settings)
    return optimizer


TINY_DECAY: Final = {"eps": 1e-6, "weight_decay": 0.1, "no_decay": ["bias"]}
TINY: Final = {"betas": [0.8, 0.9], **TINY_DECAY}

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
        build=partial(build, "Adagrad"),
    ),
    Optimizer(
        name="rmsprop",
        description="θ ← θ − lr·∇/(√v + eps), with a running average v of ∇²",
        reference="Tieleman and Hinton, COURSERA: Neural Networks for Machine Learning 6.5 (2012)",
        options=RMSpropOptions,
        tiny=(
            {},
            {
                "alpha": 0.9,
                "eps": 1e-6,
                "weight_decay": 0.1,
                "momentum": 0.5,
                "centered": True,
                "no_decay": ["bias"],
            },
        ),
        torch_class="RMSprop",
        build=partial(build, "RMSprop"),
    ),
    Optimizer(
        name="adam",
        description="θ ← θ − lr·m̂/(√v̂ + eps), with running averages m of ∇ and v of ∇²",
        reference="Kingma and Ba, ICLR 2015, arXiv:1412.6980",
        options=AdamOptions,
        tiny=({}, {**TINY, "amsgrad": True}),
        torch_class="Adam",
        build=partial(build, "Adam"),
    ),
    Optimizer(
        name="adamw",
        description="Adam with decoupled weight decay λ: θ ← (1 − lr·λ)θ before each step",
        reference="Loshchilov and Hutter, ICLR 2019, arXiv:1711.05101",
        options=AdamWOptions,
        tiny=({}, {**TINY, "amsgrad": True}),
        torch_class="AdamW",
        build=partial(build, "AdamW"),
    ),
    Optimizer(
        name="nadam",
        description="Adam with Nesterov's momentum",
        reference="Dozat, ICLR 2016 workshop",
        options=NAdamOptions,
        tiny=({}, {**TINY, "momentum_decay": 0.01, "decoupled_weight_decay": True}),
        torch_class="NAdam",
        build=partial(build, "NAdam"),
    ),
    Optimizer(
        name="radam",
        description="Adam with a rectified step size while the average of squares is uncertain",
        reference="Liu et al., ICLR 2020, arXiv:1908.03265",
        options=RAdamOptions,
        tiny=({}, {**TINY, "decoupled_weight_decay": True}),
        torch_class="RAdam",
        build=partial(build, "RAdam"),
    ),
)
