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
"""A number that all rows share, or [K, 1]. Which of the two is settled when a rule is made and
stays when rows leave, as the two round differently."""


class UpdateRule(ABC):
    """The update of some rows of a stack, by each row's own options.

    What changes from one update to the next is worked out beforehand and handed in, as learning
    rates are: so that nothing in an update waits for the device, and one that was recorded once can
    be run again.

    needs: the options it reads. options: of each row, by `torch.optim`'s names. like: a tensor
    [·, P] of the parameters' precision, on their device.
    """

    needs: ClassVar[tuple[str, ...]]

    def __init__(self, options: Sequence[Mapping[str, Any]], like: Tensor) -> None:
        self._device = like.device
        self._state: dict[str, Tensor] = {}
        self._exact = {name: _coefficient(options, name) for name in self.needs}
        self._coefficients = {
            name: value.to(like) if isinstance(value, Tensor) else value
            for name, value in self._constants().items()
        }
        self._decays = any(one["weight_decay"] for one in options)

    @property
    def steady(self) -> bool:
        """Whether the next update computes what all after it will, from other numbers."""
        return True

    def numbers(self, lr: Tensor, before: int) -> Tensor:  # noqa: ARG002 - some count updates
        """What `step` takes for each of the next n updates: [n, C, K, 1] on the CPU.

        lr: [n, K, 1], of the parameters' precision, on the CPU. before: updates so far.
        """
        return lr.unsqueeze(1)

    @abstractmethod
    def step(self, values: Tensor, gradient: Tensor, numbers: Tensor) -> None:
        """Update values [K, P] in place. gradient [K, P] is used up. numbers: [C, K, 1]."""

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (int64, ascending)."""
        self._state = {name: value[rows] for name, value in self._state.items()}
        self._coefficients = _kept(self._coefficients, rows)
        self._exact = _kept(self._exact, rows.cpu())

    def state(self) -> dict[str, Tensor]:
        """What `load` needs beside the options: the living tensors."""
        return dict(self._state)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take over such a state of as many rows."""
        self._state = {name: value.to(self._device) for name, value in state.items()}

    def _constants(self) -> Mapping[str, Coefficient]:
        """The coefficients as an update wants them, in double precision on the CPU."""
        return self._exact

    def _get(self, name: str) -> Coefficient:
        return self._coefficients[name]

    def _add_scaled(self, to: Tensor, what: Tensor, scale: Coefficient) -> None:
        """to ← to + scale·what, in place."""
        if isinstance(scale, Tensor):
            to.addcmul_(what, scale)
        else:
            to.add_(what, alpha=scale)

    def _decay_into(self, gradient: Tensor, values: Tensor) -> None:
        """L2: the penalty's gradient is added to the loss's."""
        if self._decays:
            self._add_scaled(gradient, values, self._get("weight_decay"))


class SGD(UpdateRule):
    needs = ("weight_decay",)

    def step(self, values: Tensor, gradient: Tensor, numbers: Tensor) -> None:
        self._decay_into(gradient, values)
        values.addcmul_(gradient, numbers[0], value=-1)


class Momentum(UpdateRule):
    """v ← μv + (1 − dampening)∇, θ ← θ − lr·v; v begins as the first gradient, undampened."""

    needs = ("weight_decay", "momentum", "dampening")
    nesterov = False

    @property
    def steady(self) -> bool:
        return bool(self._state)

    def step(self, values: Tensor, gradient: Tensor, numbers: Tensor) -> None:
        self._decay_into(gradient, values)
        velocity = self._state.get("velocity")
        if velocity is None:
            velocity = self._state["velocity"] = gradient.clone()
        else:
            velocity.mul_(self._get("momentum"))
            self._add_scaled(velocity, gradient, self._get("fresh"))
        if self.nesterov:
            self._add_scaled(gradient, velocity, self._get("momentum"))
            velocity = gradient
        values.addcmul_(velocity, numbers[0], value=-1)

    def _constants(self) -> Mapping[str, Coefficient]:
        return {**self._exact, "fresh": 1 - self._exact["dampening"]}


class Nesterov(Momentum):
    nesterov = True


class Adam(UpdateRule):
    """torch's: m̂/(√v̂ + eps), with both corrections taken into the step and eps."""

    needs = ("weight_decay", "beta1", "beta2", "eps")
    decoupled = False
    amsgrad = False

    def __init__(self, options: Sequence[Mapping[str, Any]], like: Tensor) -> None:
        super().__init__(options, like)
        names = ("average", "square", *(("largest",) if self.amsgrad else ()))
        shape = (len(options), like.shape[1])
        self._state = {name: like.new_zeros(shape) for name in names}
        self._work = like.new_empty(shape)

    def numbers(self, lr: Tensor, before: int) -> Tensor:
        """Of each update the step's size, what is added to √v, and where decay is decoupled by
        what the values are multiplied."""
        beta1, beta2, eps = (self._exact[name] for name in ("beta1", "beta2", "eps"))
        updates = range(before + 1, before + len(lr) + 1)
        root = _each([(1 - beta2**t) ** 0.5 for t in updates])
        ratio = root / _each([1 - beta1**t for t in updates])
        found = [ratio.to(lr) * lr, (eps * root).to(lr).expand_as(lr)]
        if self.decoupled:
            decay = self._exact["weight_decay"]
            found.append(1 - lr * (decay.to(lr) if isinstance(decay, Tensor) else decay))
        return torch.stack(found, 1)

    def step(self, values: Tensor, gradient: Tensor, numbers: Tensor) -> None:
        step, eps, *kept = numbers.unbind()
        if self.decoupled:
            values.mul_(kept[0])
        else:
            self._decay_into(gradient, values)
        average, square, work = self._state["average"], self._state["square"], self._work
        average.lerp_(gradient, self._get("new"))
        torch.mul(gradient, self._get("new_square"), out=work)
        square.mul_(self._get("beta2")).addcmul_(work, gradient)
        if self.amsgrad:
            square = torch.maximum(self._state["largest"], square, out=self._state["largest"])
        torch.sqrt(square, out=work).add_(eps)
        values.addcdiv_(torch.mul(average, step, out=gradient), work, value=-1)

    def keep(self, rows: Tensor) -> None:
        super().keep(rows)
        self._work = self._work[: len(rows)]

    def _constants(self) -> Mapping[str, Coefficient]:
        beta1, beta2 = self._exact["beta1"], self._exact["beta2"]
        return {**self._exact, "new": 1 - beta1, "new_square": 1 - beta2}


class AdamAMS(Adam):
    amsgrad = True


class AdamW(Adam):
    decoupled = True


class AdamWAMS(AdamW):
    amsgrad = True


def update_rule_for(optimizer: torch.optim.Optimizer) -> type[UpdateRule] | None:
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


def _coefficient(options: Sequence[Mapping[str, Any]], name: str) -> Coefficient:
    numbers = [_number(one, name) for one in options]
    if len(set(numbers)) == 1:
        return numbers[0]
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def _kept(coefficients: Mapping[str, Coefficient], rows: Tensor) -> dict[str, Coefficient]:
    return {
        name: value[rows] if isinstance(value, Tensor) else value
        for name, value in coefficients.items()
    }


def _each(values: Sequence[Coefficient]) -> Tensor:
    """One after another: [n, 1, 1] of numbers, [n, K, 1] of tensors; in double precision."""
    if isinstance(values[0], Tensor):
        return torch.stack([torch.as_tensor(value) for value in values])
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
