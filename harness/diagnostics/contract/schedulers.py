"""The contract of a scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite
from typing import Any, Final

from harness.components.base import Horizon
from harness.diagnostics.contract.case import Case, Check, require

BASE: Final = 0.1
HORIZONS: Final = (Horizon(1, 1), Horizon(5, 7), Horizon(10, 3, warmup=4))
VALUES: Final = (1.0, 0.5, 0.6, 0.6, 0.6, 0.4, float("nan"), 0.5, 0.5)
"""A metric's values, for schedules that follow one."""


def gives_finite_rates(case: Case) -> Iterator[str]:
    """Its rates are finite and not negative, from the first unit to the last."""
    for horizon in HORIZONS:
        for unit, rate in enumerate(_rates(case, horizon)):
            require(
                isinstance(rate, (int, float)) and isfinite(rate) and rate >= 0,
                f"its rate at {unit} of {horizon.epochs} epochs of {horizon.steps_per_epoch} "
                f"batches is {rate!r}",
            )
    yield from ()


def gives_the_same_rates_again(case: Case) -> Iterator[str]:
    """The same schedule gives the same rates again, in whatever order it is asked."""
    for horizon in HORIZONS:
        first = _rates(case, horizon)
        require(first == _rates(case, horizon), "built again, it gives other rates")
        if case.choice.component.driven_by == "time":
            schedule = _build(case, horizon)
            backwards = [schedule(BASE, unit) for unit in reversed(range(len(first)))]
            require(
                backwards[::-1] == first,
                "its rate depends on when it is asked: make it a function of lr and t alone",
            )
    yield from ()


def resumes_from_its_state(case: Case) -> Iterator[str]:
    """A schedule that follows a metric goes on from its state dict."""
    if case.choice.component.driven_by == "time":
        return
    whole, resumed = _build(case, HORIZONS[1]), _build(case, HORIZONS[1])
    for value in VALUES[:5]:
        whole.step(value)
    resumed.load_state_dict(whole.state_dict())
    for value in VALUES[5:]:
        whole.step(value)
        resumed.step(value)
        require(
            whole.lr(BASE) == resumed.lr(BASE),
            "resumed from its state_dict it gives other rates",
        )
    yield from ()


def _build(case: Case, horizon: Horizon) -> Any:
    return case.choice.component.build(case.choice.options, horizon)


def _rates(case: Case, horizon: Horizon) -> list[float]:
    schedule = _build(case, horizon)
    if case.choice.component.driven_by == "time":
        units = horizon.units(getattr(case.choice.options, "by", "epoch"))
        return [schedule(BASE, unit) for unit in range(units)]
    rates = []
    for value in VALUES:
        rates.append(schedule.lr(BASE))
        schedule.step(value)
    return rates


CHECKS: Final[tuple[Check, ...]] = (
    gives_finite_rates,
    gives_the_same_rates_again,
    resumes_from_its_state,
)
