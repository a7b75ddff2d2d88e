"""The optimizer of a stack: which trials are updated by which rule, and their learning rates."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import torch
from torch import Tensor, nn

from harness.components.base import Optimizer
from harness.experiment.trial import Choice, Trial
from harness.training.learning_rate import LearningRate
from harness.training.optimizer import TrialOptimizer, undecayed_names
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.update_rules import UpdateRule, update_rule_for

PROBE_LR: Final = 0.123456789
"""A rate that no optimizer has by itself: one that has another does not take the trial's."""
Coefficients = tuple[Tensor, ...]
"""What one update needs beside the gradient: for each range of trials a table [C, trials, 1] of the
C coefficients of its update rule, on the device. For trials with optimizers of their own the table
holds learning rates, on the CPU. The coefficients of n successive updates are [n, C, trials, 1]."""


@dataclass(slots=True)
class _TrialRange:
    """Trials start to stop, with their update rule; None if each has an optimizer of its own."""

    start: int
    stop: int
    rule: UpdateRule | None


class _OwnOptimizer:
    """The optimizer of a trial without an update rule, on the trial's row of the network.

    Its parameters and gradients are views of the row where the views are contiguous, and copies
    where not, as many optimizers reshape what they update.
    """

    def __init__(
        self, trial: Trial, network: StackedNetwork, index: int, without_decay: Collection[str]
    ) -> None:
        self._names = [part.name for part in network.slices]
        empty = network.values.new_empty(0)
        self._parameters = [nn.Parameter(empty) for _ in self._names]
        self.place(network, index)
        named = zip(self._names, self._parameters, strict=True)
        self._optimizer = TrialOptimizer(trial.optimizer, named, trial.lr, without_decay)

    @property
    def averages(self) -> bool:
        """Whether it trains other weights than it evaluates."""
        return self._optimizer.averages

    def place(self, network: StackedNetwork, index: int) -> None:
        """Continues with the values that this row of the network has now."""
        values, gradient = network.values[index], network.gradient[index]
        self._values = [part.of_trial(values) for part in network.slices]
        self._gradients = [part.of_trial(gradient) for part in network.slices]
        for parameter, value in zip(self._parameters, self._values, strict=True):
            parameter.grad = None
            parameter.data = value.contiguous()
        self._own_gradients = [gradient.contiguous() for gradient in self._gradients]

    def step(self, lr: float) -> None:
        """Updates the row by its gradient."""
        self._optimizer.set_lr(lr)
        for i, parameter in enumerate(self._parameters):
            own, gradient = self._own_gradients[i], self._gradients[i]
            if own.data_ptr() != gradient.data_ptr():
                own.copy_(gradient)
            parameter.grad = own
        self._optimizer.torch.step()
        self._write()

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """While entered, the row has the weights to evaluate."""
        with self._optimizer.evaluation_weights():
            self._write()
            yield
        self._write()

    def state(self) -> dict[str, Any]:
        return self._optimizer.state()

    def load(self, state: Mapping[str, Any]) -> None:
        self._optimizer.load(state)

    def _write(self) -> None:
        """Writes into the row what is no view of it, also where the optimizer has replaced one."""
        for parameter, value in zip(self._parameters, self._values, strict=True):
            if parameter.data_ptr() != value.data_ptr():
                value.copy_(parameter.detach())


@dataclass(frozen=True, slots=True)
class _RuleKey:
    """What the trials of one range have in common.

    rule: None for trials with optimizers of their own. without_decay: the names of parameters
    without weight decay.
    """

    rule: type[UpdateRule] | None
    without_decay: frozenset[str] = frozenset()

    @property
    def order(self) -> tuple[str, list[str]]:
        return "~" if self.rule is None else self.rule.__name__, sorted(self.without_decay)


def order_by_rule(trials: Sequence[Trial], model: nn.Module) -> list[int]:
    """Returns the trials' indices in an order that puts those of one update rule side by side."""
    built = _build_each(trials, model)
    order = [built[trial.optimizer].key.order for trial in trials]
    return sorted(range(len(trials)), key=lambda i: (order[i], trials[i].seed, i))


class StackedOptimizer:
    """Updates all trials of a stack.

    trials: in the network's order, which is that of `order_by_rule`. model: of the architecture.
    """

    def __init__(self, network: StackedNetwork, trials: Sequence[Trial], model: nn.Module) -> None:
        self._network = network
        self._ranges: list[_TrialRange] = []
        self._own: dict[int, _OwnOptimizer] = {}
        by_choice = _build_each(trials, model)
        built = [by_choice[trial.optimizer] for trial in trials]
        for key, group in groupby(range(len(trials)), lambda i: built[i].key):
            indices, rule = list(group), None
            if key.rule is None:
                self._own |= {
                    i: _OwnOptimizer(trials[i], network, i, built[i].without_decay) for i in indices
                }
            else:
                options = [built[i].options for i in indices]
                rule = key.rule(options, network.values, network.mask(key.without_decay))
            self._ranges.append(_TrialRange(indices[0], indices[-1] + 1, rule))
        limits = [float("inf") if t.grad_clip is None else t.grad_clip for t in trials]
        self._max_norm = torch.tensor(limits).to(network.values).unsqueeze(1)
        self._clips = bool(self._max_norm.isfinite().any())

    @property
    def has_own_optimizers(self) -> bool:
        """Whether some trials have an optimizer without an update rule."""
        return bool(self._own)

    @property
    def is_initialized(self) -> bool:
        """Whether all updates from the next one on run the same operations."""
        return all(rule.is_initialized for rule in self._rules())

    def tensors(self) -> list[Tensor]:
        """The tensors of update rules that an update changes and the next one reads."""
        return [tensor for rule in self._rules() for tensor in rule.state().values()]

    def coefficients(self, learning_rates: Tensor, updates: int) -> Coefficients:
        """Returns the coefficients of the next n updates.

        learning_rates: [n, K, 1], on the CPU. updates: the number of updates so far.
        """
        device = self._network.values.device
        tables = []
        for part in self._ranges:
            rates = learning_rates[:, part.start : part.stop]
            if part.rule is None:
                tables.append(rates.unsqueeze(1))
            else:
                tables.append(part.rule.coefficients(rates, updates).to(device))
        return tuple(tables)

    def step(self, coefficients: Coefficients) -> None:
        """Updates the network by its gradient, which it overwrites."""
        values, gradient = self._network.values, self._network.gradient
        if self._clips:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            scale = (self._max_norm / (norm + 1e-6)).clamp(max=1.0)
            is_limited = self._max_norm.isfinite()
            gradient.mul_(torch.where(is_limited, scale, torch.ones_like(scale)))
        for part, table in zip(self._ranges, coefficients, strict=True):
            rows = slice(part.start, part.stop)
            if part.rule is not None:
                part.rule.step(values[rows], gradient[rows], table)
                continue
            for i, lr in enumerate(table.flatten().tolist(), part.start):
                self._own[i].step(lr)

    @property
    def averages(self) -> bool:
        """Whether some trials train other weights than they evaluate."""
        return any(own.averages for own in self._own.values())

    @contextmanager
    def evaluation_weights(self) -> Iterator[None]:
        """While entered, the network has the weights to evaluate."""
        with ExitStack() as entered:
            for own in self._own.values():
                if own.averages:
                    entered.enter_context(own.evaluation_weights())
            yield

    def select(self, indices: Tensor) -> None:
        """Continues with these trials alone (int64, ascending), after `StackedNetwork.select`."""
        self._max_norm = self._max_norm[indices]
        ranges: list[_TrialRange] = []
        own: dict[int, _OwnOptimizer] = {}
        for part in self._ranges:
            pairs = [
                (new, old)
                for new, old in enumerate(indices.tolist())
                if part.start <= old < part.stop
            ]
            if not pairs:
                continue
            if part.rule is not None:
                within = torch.tensor([old - part.start for _, old in pairs])
                part.rule.select(within.to(indices.device))
            else:
                own |= {new: self._own[old] for new, old in pairs}
            ranges.append(_TrialRange(pairs[0][0], pairs[-1][0] + 1, part.rule))
        self._ranges, self._own = ranges, own
        for i, trial in own.items():
            trial.place(self._network, i)

    def state(self) -> dict[str, Any]:
        """Returns the state of each update rule, and of the optimizers of trials without one."""
        rules = [None if part.rule is None else part.rule.state() for part in self._ranges]
        return {"rules": rules, "own": {i: trial.state() for i, trial in self._own.items()}}

    def load(self, state: Mapping[str, Any]) -> None:
        """Loads the state of the same trials. Raises ValueError or KeyError if they differ."""
        for part, rule_state in zip(self._ranges, state["rules"], strict=True):
            if part.rule is not None:
                part.rule.load(rule_state)
        # Version 1.0 stored what the optimizers tell alone.
        if "own" in state:
            own = state["own"]
        else:
            own = {i: {"optimizer": told} for i, told in state["alone"].items()}
        for i, trial in self._own.items():
            trial.place(self._network, i)
            trial.load(own[i])

    def _rules(self) -> list[UpdateRule]:
        return [part.rule for part in self._ranges if part.rule is not None]


class LearningRates:
    """The learning rates of a stack's trials, batch by batch."""

    def __init__(
        self, schedules: Sequence[LearningRate], steps_per_epoch: int, dtype: torch.dtype
    ) -> None:
        self._schedules = list(schedules)
        self._steps = steps_per_epoch
        self._dtype = dtype

    def of_epoch(self, epoch: int) -> Tensor:
        """Returns [batches, K, 1] for an epoch (from 1), in the parameters' dtype, on the CPU."""
        first = (epoch - 1) * self._steps
        is_constant = all(schedule.constant_within_epoch for schedule in self._schedules)
        steps = range(first, first + (1 if is_constant else self._steps))
        rates = [
            [s.at(first if s.constant_within_epoch else step) for s in self._schedules]
            for step in steps
        ]
        table = torch.tensor(rates, dtype=torch.float64).to(self._dtype).unsqueeze(2)
        return table.expand(self._steps, -1, -1)

    def select(self, indices: Sequence[int]) -> None:
        """Continues with these trials alone."""
        self._schedules = [self._schedules[i] for i in indices]

    def state(self) -> list[dict[str, float]]:
        """Returns what each trial's schedule has observed."""
        return [schedule.state() for schedule in self._schedules]

    def load(self, state: Sequence[Mapping[str, float]]) -> None:
        for schedule, observed in zip(self._schedules, state, strict=True):
            schedule.load(observed)


@dataclass(frozen=True, slots=True)
class _Built:
    """A distinct optimizer, built to read its class and options."""

    key: _RuleKey
    options: Mapping[str, Any]
    without_decay: frozenset[str]


def _build_each(trials: Sequence[Trial], model: nn.Module) -> dict[Choice[Optimizer], _Built]:
    """Builds each distinct optimizer on a model; the learning rate is set at each step."""
    built = {}
    for choice in dict.fromkeys(trial.optimizer for trial in trials):
        optimizer = choice.component.build(choice.options, model.named_parameters(), PROBE_LR)
        takes_lr = optimizer.param_groups[0].get("lr") == PROBE_LR
        rule = update_rule_for(optimizer) if takes_lr else None
        without_decay = undecayed_names(choice, model)
        key = _RuleKey(None) if rule is None else _RuleKey(rule, without_decay)
        built[choice] = _Built(key, optimizer.param_groups[0], without_decay)
    return built
