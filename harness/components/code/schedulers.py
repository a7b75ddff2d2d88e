"""Makes learning-rate schedules of a user's functions, and of torch's schedulers.

A function takes (lr, t) and returns the rate at t. Of a class of `torch.optim.lr_scheduler`, the
rates are those that it gives an optimizer of its own, step by step.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from math import isfinite
from typing import Any, Final

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions
from harness.components.code.signatures import (
    Signature,
    option_values,
    parameters,
    read_signature,
    refuse_taken,
)
from harness.components.code.source import place_of, told_with_line
from harness.core.errors import InputError, Problem

TOTAL: Final = "total"
"""A function's parameter that takes the length of the run, in the units of t. In the options of a
class, "$total" stands for it."""
HINT: Final = "in the options of a class, $total stands for the length of the run"
OF_TORCH: Final = ("optimizer", "last_epoch", "verbose")
"""Parameters of torch's schedulers that are no options."""


def scheduler_signature(name: str, target: Any) -> Signature:
    given = parameters(target, name)
    refuse_taken(given, TimeScheduleOptions, f"{name}: every scheduler", target)
    base, places = TimeScheduleOptions, (TOTAL,)
    if inspect.isclass(target):
        return read_signature(target, name, filled=OF_TORCH, placeholders=places, base=base)
    names = list(given)
    if len(names) < 2:
        rule = f"{name} must take the learning rate and t, and takes {len(names)} parameters"
        raise InputError(Problem(rule, place_of(target)))
    return read_signature(target, name, filled=(*names[:2], TOTAL), base=base)


def own_scheduler(name: str, target: Any, common: Mapping[str, Any]) -> Scheduler:
    """Returns the schedule that a function or a class of torch's is."""
    is_class = inspect.isclass(target)
    if is_class:
        _check_class(name, target)
    has_total = not is_class and TOTAL in parameters(target, name)

    def build(options: TimeScheduleOptions, horizon: Horizon) -> Schedule:
        total = horizon.units(options.by)
        given = option_values(options, without=TimeScheduleOptions)
        given = {key: total if value == f"${TOTAL}" else value for key, value in given.items()}
        if is_class:
            return TorchSchedule(name, target, given)
        if has_total:
            given[TOTAL] = total

        def schedule(lr: float, t: int) -> float:
            with told_with_line(f"scheduler {name}", target, HINT):
                return _rate(target(lr, t, **given), t)

        return schedule

    def needs_length(options: TimeScheduleOptions) -> bool:
        return has_total or f"${TOTAL}" in option_values(options).values()

    return Scheduler(build=build, needs_length=needs_length, **common)


class TorchSchedule:
    """The rates of one of torch's schedulers, which steps an optimizer of its own.

    given: its arguments, without the optimizer.
    """

    def __init__(self, name: str, target: Any, given: Mapping[str, Any]) -> None:
        self._name, self._target, self._given = name, target, given
        self._started: dict[float, tuple[Any, list[float]]] = {}
        """By the base rate: the scheduler, and its rates so far."""

    def __call__(self, lr: float, t: int) -> float:
        what = f"scheduler {self._name}"
        with told_with_line(what, self._target, HINT), warnings.catch_warnings():
            # Of a step before the optimizer's: this optimizer never steps.
            warnings.simplefilter("ignore", UserWarning)
            if lr not in self._started:
                self._started[lr] = self._start(lr)
            scheduler, rates = self._started[lr]
            while len(rates) <= t:
                scheduler.step()
                rates.append(_rate(scheduler.optimizer.param_groups[0]["lr"], len(rates)))
        return rates[t]

    def _start(self, lr: float) -> tuple[Any, list[float]]:
        import torch

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        momentum = optimizer.param_groups[0]["momentum"]
        scheduler = self._target(optimizer, **self._given)
        if optimizer.param_groups[0]["momentum"] != momentum:
            what = "it changes the momentum too, and a schedule changes the learning rate alone"
            raise InputError(Problem(what, hint="set cycle_momentum: false"))
        return scheduler, [_rate(optimizer.param_groups[0]["lr"], 0)]


def _check_class(name: str, target: Any) -> None:
    """Raises InputError for a class that is no schedule of time."""
    from torch.optim import lr_scheduler

    if not issubclass(target, lr_scheduler.LRScheduler):
        rule = f"{name} is a class, and none of torch.optim.lr_scheduler.LRScheduler"
        hint = "write a function of (lr, t), or a class like torch's"
        raise InputError(Problem(rule, place_of(target), hint))
    if issubclass(target, lr_scheduler.ReduceLROnPlateau):
        rule = f"{name} follows a metric, and not time"
        raise InputError(Problem(rule, place_of(target), "use the scheduler `plateau`"))


def _rate(value: Any, t: int) -> float:
    try:
        rate = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"its rate at t = {t} is {value!r}, and not a number") from error
    if not isfinite(rate) or rate < 0:
        raise InputError(f"its rate at t = {t} is {rate}: a rate is finite, and at least 0")
    return rate
