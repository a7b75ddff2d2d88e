"""Update rules over rows: SGD, momentum, Nesterov, Adam and AdamW with coefficients of each trial.

`torch.optim` takes one learning rate for all it updates. Here it is [K, 1], and so is every other
number in which the trials of one rule differ. What torch writes as p ← p + (−lr)·g stays in that
order, so that a stack differs from torch by rounding alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

Coefficient = float | Tensor
"""A number that all rows share, or [K, 1] float64. Which of the two is settled when a rule is made
and stays when rows leave, as the two round differently."""


class Rule(ABC):
    """The update of some rows of a stack, by each row's own options.

    needs: the options it reads. scratch: what it holds that says nothing from step to step.
    options: of each row, by `torch.optim`'s names. like: a tensor of the parameters' precision, on
    their device.
    """

    needs: ClassVar[tuple[str, ...]]
    scratch: ClassVar[tuple[str, ...]] = ()

    def __init__(self, options: Sequence[Mapping[str, Any]], like: Tensor) -> None:
        self._dtype = like.dtype
        self._device = like.device
        self._steps = 0
        self._state: dict[str, Tensor] = {}
        self._coefficients = {name: self._coefficient(options, name) for name in self.needs}
        self._decays = any(one["weight_decay"] for one in options)

    @abstractmethod
    def step(self, values: Tensor, gradient: Tensor, lr: Tensor) -> None:
        """Update values [K, P] in place. gradient [K, P] is used up. lr: [K, 1]."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (int64, ascending)."""
        self._state = {name: value[rows] for name, value in self._state.items()}
        self._coefficients = {
            name: value[rows] if isinstance(value, Tensor) else value
            for name, value in self._coefficients.items()
        }

    def state(self) -> dict[str, Any]:
        """What `load` needs beside the options: the living tensors, and the steps so far."""
        kept = {name: value for name, value in self._state.items() if name not in self.scratch}
        return {"steps": self._steps, "tensors": kept}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over such a state of as many rows."""
        self._steps = state["steps"]
        self._state = {name: value.to(self._device) for name, value in state["tensors"].items()}

    def _coefficient(self, options: Sequence[Mapping[str, Any]], name: str) -> Coefficient:
        numbers = [_number(one, name) for one in options]
        if len(set(numbers)) == 1:
            return numbers[0]
        return torch.tensor(numbers, dtype=torch.float64, device=self._device).unsqueeze(1)

    def _get(self, name: str) -> Coefficient:
        return self._coefficients[name]

    def _cast(self, value: Coefficient) -> Coefficient:
        """In the parameters' precision."""
        return value.to(self._dtype) if isinstance(value, Tensor) else value

    def _add_scaled(self, to: Tensor, what: Tensor, scale: Coefficient) -> None:
        """to ← to + scale·what, in place."""
        if isinstance(scale, Tensor):
            to.addcmul_(what, scale.to(to.dtype))
        else:
            to.add_(what, alpha=scale)

    def _decay_into(self, gradient: Tensor, values: Tensor) -> None:
        """L2: the penalty's gradient is added to the loss's."""
        if self._decays:
            self._add_scaled(gradient, values, self._get("weight_decay"))


class SGD(Rule):
    needs = ("weight_decay",)

    def step(self, values: Tensor, gradient: Tensor, lr: Tensor) -> None:
        self._decay_into(gradient, values)
        values.addcmul_(gradient, lr, value=-1)


class Momentum(Rule):
    """v ← μv + (1 − dampening)∇, θ ← θ − lr·v; v begins as the first gradient, undampened."""

    needs = ("weight_decay", "momentum", "dampening")
    nesterov = False

    def step(self, values: Tensor, gradient: Tensor, lr: Tensor) -> None:
        self._decay_into(gradient, values)
        momentum, dampening = self._get("momentum"), self._get("dampening")
        velocity = self._state.get("velocity")
        if velocity is None:
            velocity = self._state["velocity"] = gradient.clone()
        else:
            velocity.mul_(self._cast(momentum))
            self._add_scaled(velocity, gradient, 1 - dampening)
        if self.nesterov:
            self._add_scaled(gradient, velocity, momentum)
            velocity = gradient
        values.addcmul_(velocity, lr, value=-1)


class Nesterov(Momentum):
    nesterov = True


class Adam(Rule):
    """torch's: m̂/(√v̂ + eps), with both corrections taken into the step and eps."""

    needs = ("weight_decay", "beta1", "beta2", "eps")
    scratch = ("work",)
    decoupled = False
    amsgrad = False

    def step(self, values: Tensor, gradient: Tensor, lr: Tensor) -> None:
        if self.decoupled:
            values.mul_(1 - lr * self._cast(self._get("weight_decay")))
        else:
            self._decay_into(gradient, values)
        self._steps += 1
        beta1, beta2 = self._get("beta1"), self._get("beta2")
        root = (1 - beta2**self._steps) ** 0.5
        step = self._cast(root / (1 - beta1**self._steps)) * lr
        state = self._moments(values)
        average, square, work = state["average"], state["square"], state["work"]
        average.lerp_(gradient, self._cast(1 - beta1))
        torch.mul(gradient, self._cast(1 - beta2), out=work)
        square.mul_(self._cast(beta2)).addcmul_(work, gradient)
        if self.amsgrad:
            square = torch.maximum(state["largest"], square, out=state["largest"])
        torch.sqrt(square, out=work).add_(self._cast(self._get("eps") * root))
        values.addcdiv_(torch.mul(average, step, out=gradient), work, value=-1)

    def _moments(self, values: Tensor) -> dict[str, Tensor]:
        for name in ("average", "square", "work", *(("largest",) if self.amsgrad else ())):
            if name not in self._state:
                self._state[name] = torch.zeros_like(values)
        return self._state


class AdamAMS(Adam):
    amsgrad = True


class AdamW(Adam):
    decoupled = True


class AdamWAMS(AdamW):
    amsgrad = True


def rule_for(optimizer: torch.optim.Optimizer) -> type[Rule] | None:
    """The stacked rule that computes what this optimizer does, or None where there is none."""
    if len(optimizer.param_groups) != 1:
        return None
    options = optimizer.param_groups[0]
    if options.get("maximize"):
        return None
    if type(optimizer) is torch.optim.SGD:
        if not options["momentum"]:
            return SGD
        return Nesterov if options["nesterov"] else Momentum
    if type(optimizer) is torch.optim.Adam and not options.get("decoupled_weight_decay"):
        return AdamAMS if options["amsgrad"] else Adam
    if type(optimizer) is torch.optim.AdamW:
        return AdamWAMS if options["amsgrad"] else AdamW
    return None


def _number(options: Mapping[str, Any], name: str) -> float:
    if name in ("beta1", "beta2"):
        return float(options["betas"][name == "beta2"])
    return float(options[name])
