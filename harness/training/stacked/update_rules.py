"""Update rules for several trials: SGD, momentum, Nesterov, Adam and AdamW.

`torch.optim` has one learning rate for all that it updates. Here it is [K, 1], as is every other
coefficient in which the trials of one rule differ. The operations keep torch's order, such as
p ← p + (−lr)·g, so that a stack differs from torch by rounding alone.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

Coefficient = float | Tensor
"""A number that all trials share, or [K, 1]. This is decided when a rule is built, and does not
change when trials leave: the two round differently."""


class UpdateRule(ABC):
    """Updates several trials, each with its own options.

    Coefficients that change from one update to the next, such as learning rates, are computed
    beforehand and passed in: an update then never waits for the device, and a CUDA graph of it can
    be replayed.

    needs: the names of the options it reads. options: of each trial, by `torch.optim`'s names.
    like: a tensor [·, P] of the parameters' dtype, on their device. decayed: booleans [P], where
    weight decay applies; None for everywhere.
    """

    needs: ClassVar[tuple[str, ...]]

    def __init__(
        self, options: Sequence[Mapping[str, Any]], like: Tensor, decayed: Tensor | None = None
    ) -> None:
        self._device = like.device
        self._decayed = decayed
        self._state: dict[str, Tensor] = {}
        self._exact_options = {name: _coefficient(options, name) for name in self.needs}
        self._options = {
            name: value.to(like) if isinstance(value, Tensor) else value
            for name, value in self._prepare_options().items()
        }
        self._decays = any(trial["weight_decay"] for trial in options)

    @property
    def is_initialized(self) -> bool:
        """Whether all updates from the next one on run the same operations."""
        return True

    def coefficients(self, lr: Tensor, updates: int) -> Tensor:  # noqa: ARG002 - Adam counts them
        """Returns the C coefficients of each of the next n updates: [n, C, K, 1] on the CPU.

        lr: [n, K, 1], in the parameters' dtype, on the CPU. updates: the number of updates so far.
        """
        return lr.unsqueeze(1)

    @abstractmethod
    def step(self, values: Tensor, gradient: Tensor, coefficients: Tensor) -> None:
        """Updates values [K, P] in place and overwrites gradient [K, P].

        coefficients: [C, K, 1].
        """

    def select(self, indices: Tensor) -> None:
        """Continues with these trials alone (int64, ascending)."""
        self._state = {name: value[indices] for name, value in self._state.items()}
        self._options = _select(self._options, indices)
        self._exact_options = _select(self._exact_options, indices.cpu())

    def state(self) -> dict[str, Tensor]:
        """Returns what `load` needs beside the options; not copies."""
        return dict(self._state)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Loads the state of as many trials."""
        self._state = {name: value.to(self._device) for name, value in state.items()}

    def _prepare_options(self) -> Mapping[str, Coefficient]:
        """Returns the coefficients that an update reads, in double precision on the CPU."""
        return self._exact_options

    def _add_scaled(self, target: Tensor, other: Tensor, scale: Coefficient) -> None:
        """target ← target + scale·other, in place."""
        if isinstance(scale, Tensor):
            target.addcmul_(other, scale)
        else:
            target.add_(other, alpha=scale)

    def _add_weight_decay(self, gradient: Tensor, values: Tensor) -> None:
        """L2 regularisation: adds the penalty's gradient to the loss's."""
        if not self._decays:
            return
        decay = self._options["weight_decay"]
        if self._decayed is not None:
            decay = self._decayed.to(values.dtype) * decay
        self._add_scaled(gradient, values, decay)


class SGD(UpdateRule):
    needs = ("weight_decay",)

    def step(self, values: Tensor, gradient: Tensor, coefficients: Tensor) -> None:
        self._add_weight_decay(gradient, values)
        values.addcmul_(gradient, coefficients[0], value=-1)


class Momentum(UpdateRule):
    """v ← μv + (1 − dampening)∇, θ ← θ − lr·v; v starts as the first gradient, undampened."""

    needs = ("weight_decay", "momentum", "dampening")
    nesterov = False

    @property
    def is_initialized(self) -> bool:
        return bool(self._state)

    def step(self, values: Tensor, gradient: Tensor, coefficients: Tensor) -> None:
        self._add_weight_decay(gradient, values)
        velocity = self._state.get("velocity")
        if velocity is None:
            velocity = self._state["velocity"] = gradient.clone()
        else:
            velocity.mul_(self._options["momentum"])
            self._add_scaled(velocity, gradient, self._options["undampened"])
        if self.nesterov:
            self._add_scaled(gradient, velocity, self._options["momentum"])
            velocity = gradient
        values.addcmul_(velocity, coefficients[0], value=-1)

    def _prepare_options(self) -> Mapping[str, Coefficient]:
        return {**self._exact_options, "undampened": 1 - self._exact_options["dampening"]}


class Nesterov(Momentum):
    nesterov = True


class Adam(UpdateRule):
    """m̂/(√v̂ + eps) as torch computes it: both bias corrections are part of the step and eps."""

    needs = ("weight_decay", "beta1", "beta2", "eps")
    decoupled = False
    amsgrad = False

    def __init__(
        self, options: Sequence[Mapping[str, Any]], like: Tensor, decayed: Tensor | None = None
    ) -> None:
        super().__init__(options, like, decayed)
        names = ("average", "square", *(("largest",) if self.amsgrad else ()))
        shape = (len(options), like.shape[1])
        self._state = {name: like.new_zeros(shape) for name in names}
        self._work = like.new_empty(shape)

    def coefficients(self, lr: Tensor, updates: int) -> Tensor:
        """Returns for each update the step size, the number added to √v, and for decoupled weight
        decay the factor of the values."""
        beta1, beta2, eps = (self._exact_options[name] for name in ("beta1", "beta2", "eps"))
        counts = range(updates + 1, updates + len(lr) + 1)
        root = _tabulate([(1 - beta2**t) ** 0.5 for t in counts])
        ratio = root / _tabulate([1 - beta1**t for t in counts])
        table = [ratio.to(lr) * lr, (eps * root).to(lr).expand_as(lr)]
        if self.decoupled:
            decay = self._exact_options["weight_decay"]
            table.append(1 - lr * (decay.to(lr) if isinstance(decay, Tensor) else decay))
        return torch.stack(table, 1)

    def step(self, values: Tensor, gradient: Tensor, coefficients: Tensor) -> None:
        step, eps, *decay = coefficients.unbind()
        if self.decoupled:
            values.mul_(
                decay[0] if self._decayed is None else torch.where(self._decayed, decay[0], 1.0)
            )
        else:
            self._add_weight_decay(gradient, values)
        average, square, work = self._state["average"], self._state["square"], self._work
        average.lerp_(gradient, self._options["new"])
        torch.mul(gradient, self._options["new_square"], out=work)
        square.mul_(self._options["beta2"]).addcmul_(work, gradient)
        if self.amsgrad:
            square = torch.maximum(self._state["largest"], square, out=self._state["largest"])
        torch.sqrt(square, out=work).add_(eps)
        values.addcdiv_(torch.mul(average, step, out=gradient), work, value=-1)

    def select(self, indices: Tensor) -> None:
        super().select(indices)
        self._work = self._work[: len(indices)]

    def _prepare_options(self) -> Mapping[str, Coefficient]:
        beta1, beta2 = self._exact_options["beta1"], self._exact_options["beta2"]
        return {**self._exact_options, "new": 1 - beta1, "new_square": 1 - beta2}


class AdamAMS(Adam):
    amsgrad = True


class AdamW(Adam):
    decoupled = True


class AdamWAMS(AdamW):
    amsgrad = True


def update_rule_for(optimizer: torch.optim.Optimizer) -> type[UpdateRule] | None:
    """Returns the update rule that computes what this optimizer does; None if there is none."""
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
    numbers = [_number(trial, name) for trial in options]
    if len(set(numbers)) == 1:
        return numbers[0]
    return torch.tensor(numbers, dtype=torch.float64).unsqueeze(1)


def _select(coefficients: Mapping[str, Coefficient], indices: Tensor) -> dict[str, Coefficient]:
    return {
        name: value[indices] if isinstance(value, Tensor) else value
        for name, value in coefficients.items()
    }


def _tabulate(values: Sequence[Coefficient]) -> Tensor:
    """Returns [n, 1, 1] for numbers, [n, K, 1] for tensors; in double precision."""
    if isinstance(values[0], Tensor):
        return torch.stack([torch.as_tensor(value) for value in values])
    return torch.tensor(values, dtype=torch.float64).view(-1, 1, 1)
