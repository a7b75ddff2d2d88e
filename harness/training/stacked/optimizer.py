"""Which rows of a stack are updated by which rule, and the learning rate of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from harness.components.base import Optimizer
from harness.experiment.trial import Choice, Trial
from harness.training.learning_rate import LearningRate
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.update_rules import UpdateRule, update_rule_for


@dataclass(slots=True)
class _Slice:
    """Rows start to stop, and what updates them: a rule, or None for each trial's own optimizer."""

    start: int
    stop: int
    rule: UpdateRule | None


@dataclass(slots=True)
class _Alone:
    """A trial whose optimizer has no stacked rule: torch's own, on views of its row."""

    parameters: list[nn.Parameter]
    optimizer: torch.optim.Optimizer


@dataclass(frozen=True, slots=True)
class UpdateCoefficients:
    """What one update takes beside the gradient.

    of_slices: for each slice with a rule what that rule wants, [C, rows, 1], on the device.
    rates: the learning rate of each row, on the host; empty where every slice has a rule.
    """

    of_slices: tuple[Tensor, ...]
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class EpochCoefficients:
    """The `Numbers` of several updates, one after another: those of its fields, [n, …]."""

    of_slices: tuple[Tensor, ...]
    rates: tuple[tuple[float, ...], ...]

    def __iter__(self) -> Iterator[UpdateCoefficients]:
        parts = zip(*(table.unbind() for table in self.of_slices), strict=True)
        if not self.rates:
            return (UpdateCoefficients(part, ()) for part in parts)
        if not self.of_slices:
            return (UpdateCoefficients((), rates) for rates in self.rates)
        return (
            UpdateCoefficients(part, rates) for part, rates in zip(parts, self.rates, strict=True)
        )


def order_by_rule(trials: Sequence[Trial], model: nn.Module) -> list[int]:
    """The trials' places sorted so that those of one rule lie side by side, as slices want."""
    built = _built(trials, model)
    kinds = [update_rule_for(built[trial.optimizer]) for trial in trials]
    names = ["~" if kind is None else kind.__name__ for kind in kinds]
    return sorted(range(len(trials)), key=lambda i: (names[i], trials[i].seed, i))


class StackedOptimizer:
    """The update of a whole stack.

    trials: of its rows, in the order of `in_order`. model: one of the architecture.
    """

    def __init__(self, network: StackedNetwork, trials: Sequence[Trial], model: nn.Module) -> None:
        self._network = network
        self._slices: list[_Slice] = []
        self._alone: dict[int, _Alone] = {}
        built = _built(trials, model)
        optimizers = [built[trial.optimizer] for trial in trials]
        kinds = [update_rule_for(optimizer) for optimizer in optimizers]
        start = 0
        for stop in range(1, len(trials) + 1):
            if stop == len(trials) or kinds[stop] is not kinds[start]:
                self._slices.append(self._slice(start, stop, kinds[start], optimizers))
                if kinds[start] is None:
                    self._add_alone(range(start, stop), trials)
                start = stop
        self._clip = _clips(trials, network.values)
        self._clips = bool(self._clip.isfinite().any())

    @property
    def alone(self) -> bool:
        """Whether some rows have an optimizer without a rule."""
        return bool(self._alone)

    @property
    def steady(self) -> bool:
        """Whether the next update computes what all after it will, from other numbers."""
        return all(part.rule.steady for part in self._slices if part.rule is not None)

    def living(self) -> list[Tensor]:
        """The rules' tensors that an update changes and the next one reads."""
        rules = [part.rule for part in self._slices if part.rule is not None]
        return [tensor for rule in rules for tensor in rule.state().values()]

    def numbers(self, lr: Tensor, before: int) -> EpochCoefficients:
        """What the next n updates take. lr: [n, K, 1], on the CPU. before: updates so far."""
        tables = [
            part.rule.numbers(lr[:, part.start : part.stop], before)
            for part in self._slices
            if part.rule is not None
        ]
        rates = tuple(map(tuple, lr.squeeze(2).tolist())) if self._alone else ()
        return EpochCoefficients(
            tuple(one.to(self._network.values.device) for one in tables), rates
        )

    def step(self, numbers: UpdateCoefficients) -> None:
        """Update the network by its gradient, which is used up."""
        values, gradient = self._network.values, self._network.gradient
        if self._clips:
            norm = torch.linalg.vector_norm(gradient, dim=1, keepdim=True)
            share = (self._clip / (norm + 1e-6)).clamp(max=1.0)
            gradient.mul_(torch.where(self._clip.isfinite(), share, torch.ones_like(share)))
        of_slices = iter(numbers.of_slices)
        for part in self._slices:
            rows = slice(part.start, part.stop)
            if part.rule is not None:
                part.rule.step(values[rows], gradient[rows], next(of_slices))
            else:
                for row in range(part.start, part.stop):
                    self._step_alone(self._alone[row], numbers.rates[row])

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows alone (int64, ascending); after `Network.keep`."""
        kept = rows.tolist()
        self._clip = self._clip[rows]
        slices: list[_Slice] = []
        alone: dict[int, _Alone] = {}
        for part in self._slices:
            own = [(new, old) for new, old in enumerate(kept) if part.start <= old < part.stop]
            if not own:
                continue
            if part.rule is not None:
                part.rule.keep(torch.tensor([old - part.start for _, old in own]).to(rows.device))
            else:
                alone |= {new: self._alone[old] for new, old in own}
            slices.append(_Slice(own[0][0], own[-1][0] + 1, part.rule))
        self._slices, self._alone = slices, alone
        for row, trial in alone.items():
            self._point_at(trial.parameters, row)

    def state(self) -> dict[str, Any]:
        """Each rule's state, and of rows that have none of these their optimizer's own."""
        rules = [None if part.rule is None else part.rule.state() for part in self._slices]
        alone = {row: one.optimizer.state_dict() for row, one in self._alone.items()}
        return {"rules": rules, "alone": alone}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take over such a state of the same rows. Raises ValueError, KeyError where it is of
        others."""
        for part, rule in zip(self._slices, state["rules"], strict=True):
            if part.rule is not None:
                part.rule.load(rule)
        for row, one in self._alone.items():
            one.optimizer.load_state_dict(state["alone"][row])

    def _slice(
        self,
        start: int,
        stop: int,
        kind: type[UpdateRule] | None,
        optimizers: Sequence[torch.optim.Optimizer],
    ) -> _Slice:
        if kind is None:
            return _Slice(start, stop, None)
        options = [optimizer.param_groups[0] for optimizer in optimizers[start:stop]]
        return _Slice(start, stop, kind(options, self._network.values))

    def _add_alone(self, rows: range, trials: Sequence[Trial]) -> None:
        for row in rows:
            choice = trials[row].optimizer
            empty = self._network.values.new_empty(0)
            parameters = [nn.Parameter(empty) for _ in self._network.places]
            self._point_at(parameters, row)
            built = choice.component.build(choice.options, parameters, trials[row].lr)
            self._alone[row] = _Alone(parameters, built)

    def _point_at(self, parameters: Sequence[nn.Parameter], row: int) -> None:
        """Make a trial's parameters and their gradients views of its row."""
        values, gradient = self._network.values[row], self._network.gradient[row]
        for parameter, place in zip(parameters, self._network.places, strict=True):
            parameter.grad = None
            parameter.data = place.own(values)
            parameter.grad = place.own(gradient)

    def _step_alone(self, trial: _Alone, lr: float) -> None:
        for group in trial.optimizer.param_groups:
            group["lr"] = lr
        trial.optimizer.step()


class LearningRates:
    """The learning rates of a stack's rows, batch by batch."""

    def __init__(
        self, rates: Sequence[LearningRate], steps_per_epoch: int, dtype: torch.dtype
    ) -> None:
        self._rates = list(rates)
        self._steps = steps_per_epoch
        self._dtype = dtype

    def of_epoch(self, epoch: int) -> Tensor:
        """[batches, K, 1] of an epoch (from 1), in the parameters' precision, on the CPU."""
        first = (epoch - 1) * self._steps
        varying = not all(rate.constant_within_epoch for rate in self._rates)
        steps = range(first, first + self._steps) if varying else range(first, first + 1)
        table = [[_at(rate, step, first) for rate in self._rates] for step in steps]
        made = torch.tensor(table, dtype=torch.float64).to(self._dtype).unsqueeze(2)
        return made.expand(self._steps, -1, -1)

    def keep(self, rows: Sequence[int]) -> None:
        self._rates = [self._rates[row] for row in rows]

    def state(self) -> list[dict[str, float]]:
        """What each row's schedule has observed."""
        return [rate.state() for rate in self._rates]

    def load(self, state: Sequence[Mapping[str, float]]) -> None:
        for rate, observed in zip(self._rates, state, strict=True):
            rate.load(observed)


def _at(rate: LearningRate, step: int, first: int) -> float:
    return rate.at(first if rate.constant_within_epoch else step)


def _clips(trials: Sequence[Trial], like: Tensor) -> Tensor:
    """[K, 1]: the largest gradient norm of each, infinite where there is no limit."""
    limits = [float("inf") if t.grad_clip is None else t.grad_clip for t in trials]
    return torch.tensor(limits).to(like).unsqueeze(1)


def _built(
    trials: Sequence[Trial], model: nn.Module
) -> dict[Choice[Optimizer], torch.optim.Optimizer]:
    """Each optimizer on a model of the architecture, to read what it is and its options from; the
    learning rate is set at each step."""
    return {
        choice: choice.component.build(choice.options, model.parameters(), 1.0)
        for choice in dict.fromkeys(trial.optimizer for trial in trials)
    }
