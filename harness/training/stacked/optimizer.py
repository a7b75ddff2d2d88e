"""The optimizer of a stack: which trials are updated by which rule, and their learning rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from harness.components.base import Optimizer
from harness.experiment.trial import Choice, Trial
from harness.training.learning_rate import LearningRate
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.update_rules import UpdateRule, update_rule_for

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


@dataclass(slots=True)
class _OwnOptimizer:
    """The torch optimizer of a trial without an update rule, on views of the trial's row."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer


def order_by_rule(trials: Sequence[Trial], model: nn.Module) -> list[int]:
    """Returns the trials' indices in an order that puts those of one update rule side by side."""
    optimizers = _build_each(trials, model)
    rules = [update_rule_for(optimizers[trial.optimizer]) for trial in trials]
    names = ["~" if rule is None else rule.__name__ for rule in rules]
    return sorted(range(len(trials)), key=lambda i: (names[i], trials[i].seed, i))


class StackedOptimizer:
    """Updates all trials of a stack.

    trials: in the network's order, which is that of `order_by_rule`. model: of the architecture.
    """

    def __init__(self, network: StackedNetwork, trials: Sequence[Trial], model: nn.Module) -> None:
        self._network = network
        self._ranges: list[_TrialRange] = []
        self._own: dict[int, _OwnOptimizer] = {}
        by_choice = _build_each(trials, model)
        optimizers = [by_choice[trial.optimizer] for trial in trials]
        rules = [update_rule_for(optimizer) for optimizer in optimizers]
        for rule_class, group in groupby(range(len(trials)), rules.__getitem__):
            indices, rule = list(group), None
            if rule_class is None:
                self._own |= {i: self._build_own(trials[i], i) for i in indices}
            else:
                options = [optimizers[i].param_groups[0] for i in indices]
                rule = rule_class(options, network.values)
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
                for group in self._own[i].optimizer.param_groups:
                    group["lr"] = lr
                self._own[i].optimizer.step()

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
            self._set_views(trial.parameters, i)

    def state(self) -> dict[str, Any]:
        """Returns the state of each update rule, and of the optimizers of trials without one."""
        rules = [None if part.rule is None else part.rule.state() for part in self._ranges]
        own = {i: trial.optimizer.state_dict() for i, trial in self._own.items()}
        return {"rules": rules, "alone": own}

    def load(self, state: Mapping[str, Any]) -> None:
        """Loads the state of the same trials. Raises ValueError or KeyError if they differ."""
        for part, rule_state in zip(self._ranges, state["rules"], strict=True):
            if part.rule is not None:
                part.rule.load(rule_state)
        for i, trial in self._own.items():
            trial.optimizer.load_state_dict(state["alone"][i])

    def _rules(self) -> list[UpdateRule]:
        return [part.rule for part in self._ranges if part.rule is not None]

    def _build_own(self, trial: Trial, index: int) -> _OwnOptimizer:
        empty = self._network.values.new_empty(0)
        parameters = [nn.Parameter(empty) for _ in self._network.slices]
        self._set_views(parameters, index)
        choice = trial.optimizer
        optimizer = choice.component.build(choice.options, parameters, trial.lr)
        return _OwnOptimizer(parameters, optimizer)

    def _set_views(self, parameters: Sequence[nn.Parameter], index: int) -> None:
        """Makes a trial's parameters and their gradients views of its row."""
        values, gradient = self._network.values[index], self._network.gradient[index]
        for parameter, part in zip(parameters, self._network.slices, strict=True):
            parameter.grad = None
            parameter.data = part.of_trial(values)
            parameter.grad = part.of_trial(gradient)


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


def _build_each(
    trials: Sequence[Trial], model: nn.Module
) -> dict[Choice[Optimizer], torch.optim.Optimizer]:
    """Builds each distinct optimizer on a model, to read its class and options; the learning rate
    is set at each step."""
    return {
        choice: choice.component.build(choice.options, model.parameters(), 1.0)
        for choice in dict.fromkeys(trial.optimizer for trial in trials)
    }
