"""The schedulers against written tables and against torch's own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from math import cos, isfinite, pi

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.optim import lr_scheduler

from harness.components.base import (
    DataInfo,
    Horizon,
    MetricScheduleOptions,
    Schedule,
    Scheduler,
    Task,
    TimeScheduleOptions,
)
from harness.experiment.trial import Choice
from tests.support import assert_keeps_contract, make_trial, registered

STEPS = 100
BASE = 0.3

untimed = settings(deadline=None)
"""The first use of torch imports what it lacks, and machines differ."""

by = st.sampled_from(["epoch", "batch"])
fraction = st.floats(0.01, 1)
floor = st.sampled_from([0.0, 1e-4, 0.05, 0.5])
span = st.integers(1, 130)
OPTIONS = {
    "constant": st.fixed_dictionaries({"by": by}),
    "warmup": st.fixed_dictionaries({"by": by}),
    "step": st.fixed_dictionaries({"by": by, "gamma": fraction, "step_size": span}),
    "multistep": st.fixed_dictionaries(
        {"by": by, "gamma": fraction, "milestones": st.sets(span, min_size=1).map(sorted)}
    ),
    "exponential": st.fixed_dictionaries({"by": by, "gamma": fraction}),
    "cosine": st.fixed_dictionaries({"by": by, "t_max": span, "eta_min": floor}),
    "cosine_restarts": st.fixed_dictionaries(
        {"by": by, "t_0": span, "t_mult": st.integers(1, 3), "eta_min": floor}
    ),
    "linear": st.fixed_dictionaries(
        {"by": by, "start_factor": fraction, "end_factor": st.floats(0, 1), "total": span}
    ),
    "polynomial": st.fixed_dictionaries({"by": by, "power": st.floats(0.1, 4), "total": span}),
    "onecycle": st.fixed_dictionaries(
        {
            "by": by,
            "pct_start": st.floats(0, 0.5),
            "anneal_strategy": st.sampled_from(["cos", "linear"]),
            "div_factor": st.floats(1, 100),
            "final_div_factor": st.floats(1, 1e5),
            "three_phase": st.booleans(),
        }
    ),
}
"""Every option of every schedule that is a function of time, the warm-up's apart."""

TORCH: dict[str, Callable[..., lr_scheduler.LRScheduler]] = {
    "constant": lambda o: lr_scheduler.ConstantLR(o, factor=1.0),
    "step": lambda o, step_size, gamma: lr_scheduler.StepLR(o, step_size, gamma),
    "multistep": lambda o, milestones, gamma: lr_scheduler.MultiStepLR(o, milestones, gamma),
    "exponential": lambda o, gamma: lr_scheduler.ExponentialLR(o, gamma),
    "cosine": lambda o, t_max, eta_min: lr_scheduler.CosineAnnealingLR(o, t_max, eta_min),
    "cosine_restarts": lambda o, t_0, t_mult, eta_min: lr_scheduler.CosineAnnealingWarmRestarts(
        o, t_0, t_mult, eta_min
    ),
    "linear": lambda o, start_factor, end_factor, total: lr_scheduler.LinearLR(
        o, start_factor, end_factor, total
    ),
    "polynomial": lambda o, power, total: lr_scheduler.PolynomialLR(o, total, power),
    "onecycle": lambda o, **options: lr_scheduler.OneCycleLR(
        o, max_lr=BASE, total_steps=STEPS, cycle_momentum=False, **options
    ),
}


def build(name, options, horizon):
    choice = Choice.of("schedulers", {"name": name, **options})
    return choice.component.build(choice.options, horizon)


def torch_optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=BASE)


def torch_rates(name, options):
    """What torch's scheduler sets for each of the first `STEPS` units."""
    optimizer = torch_optimizer()
    with warnings.catch_warnings():
        # No update is made between the steps, which torch warns of.
        warnings.simplefilter("ignore", UserWarning)
        scheduler = TORCH[name](optimizer, **{k: v for k, v in options.items() if k != "by"})
        rates = []
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            scheduler.step()
    return rates


def half_cosine(done):
    return (1 + cos(pi * done)) / 2


TABLES = [
    ("constant", {}, 3, [1, 1, 1]),
    ("warmup", {}, 3, [1, 1, 1]),
    # A third of 7, rounded up, is 3.
    ("step", {}, 7, [1, 1, 1, 0.1, 0.1, 0.1, 0.01]),
    ("step", {"step_size": 2, "gamma": 0.5}, 5, [1, 1, 0.5, 0.5, 0.25]),
    ("step", {}, 1, [1]),
    ("multistep", {}, 8, [1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01]),
    ("multistep", {}, 5, [1, 1, 1, 0.1, 0.01]),
    ("multistep", {"milestones": [1, 4], "gamma": 0.5}, 5, [1, 0.5, 0.5, 0.5, 0.25]),
    ("multistep", {}, 1, [1]),
    ("exponential", {"gamma": 0.5}, 4, [1, 0.5, 0.25, 0.125]),
    ("exponential", {}, 3, [1, 0.95, 0.9025]),
    ("cosine", {}, 4, [1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2]),
    ("cosine", {"t_max": 2}, 6, [1, 0.5, 0, 0.5, 1, 0.5]),
    ("cosine", {"t_max": 3, "eta_min": 0.2}, 4, [1, 0.8, 0.4, 0.2]),
    ("cosine_restarts", {}, 4, [1, 0.5, 1, 0.5]),
    ("cosine_restarts", {"t_mult": 2}, 6, [1, 0.5, 1, half_cosine(0.25), 0.5, half_cosine(0.75)]),
    ("cosine_restarts", {"t_0": 2, "eta_min": 0.2}, 5, [1, 0.6, 1, 0.6, 1]),
    ("linear", {}, 4, [1, 0.75, 0.5, 0.25]),
    ("linear", {"start_factor": 0.5, "end_factor": 1.0, "total": 2}, 4, [0.5, 0.75, 1, 1]),
    ("polynomial", {}, 4, [1, 0.75, 0.5, 0.25]),
    ("polynomial", {"power": 2.0, "total": 4}, 6, [1, 0.5625, 0.25, 0.0625, 0, 0]),
    # Up over 0.3 of 10 units, to unit 2; down over the rest, to unit 9.
    (
        "onecycle",
        {"div_factor": 10.0, "final_div_factor": 10.0, "anneal_strategy": "linear"},
        10,
        [0.1, 0.55, 1, *(1 - 0.99 * k / 7 for k in range(1, 8))],
    ),
    (
        "onecycle",
        {"div_factor": 10.0, "final_div_factor": 10.0},
        10,
        [0.1, 0.55, 1, *(0.01 + 0.99 * half_cosine(k / 7) for k in range(1, 8))],
    ),
    (
        "onecycle",
        {
            "div_factor": 10.0,
            "final_div_factor": 10.0,
            "anneal_strategy": "linear",
            "three_phase": True,
        },
        10,
        # up to unit 2, down to 0.1 at unit 4, on to 0.01 at unit 9
        [0.1, 0.55, 1, 0.55, 0.1, 0.082, 0.064, 0.046, 0.028, 0.01],
    ),
    # A rise of no length, where torch divides by zero: it begins at the peak.
    ("onecycle", {"pct_start": 0.5, "final_div_factor": 1.0}, 2, [1, 0.04]),
]


@pytest.mark.parametrize("unit", ["epoch", "batch"])
@pytest.mark.parametrize(("name", "options", "units", "expected"), TABLES)
def test_written_table(name, options, units, expected, unit) -> None:
    horizon = Horizon(units, 5) if unit == "epoch" else Horizon(1, units)
    schedule = build(name, {**options, "by": unit}, horizon)
    for lr in (1.0, 0.01):
        floor = options.get("eta_min", 0.0)
        scaled = [floor + (lr - floor) * (e - floor) / (1 - floor) for e in expected]
        rates = [schedule(lr, t) for t in range(units)]
        assert rates == pytest.approx(scaled, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("name", TORCH)
@untimed
@given(data=st.data())
def test_equals_torch(name, data) -> None:
    options = data.draw(OPTIONS[name])
    # torch divides by zero where the rise has no length
    assume(options.get("pct_start", 1.0) * STEPS != 1)
    # STEPS units, whatever the unit
    horizon = Horizon(STEPS, 7) if options["by"] == "epoch" else Horizon(1, STEPS)
    schedule = build(name, options, horizon)
    rates = [schedule(BASE, t) for t in range(STEPS)]
    # torch computes these two by a recursion, which collects rounding
    rel = 1e-9 if name in ("cosine", "linear", "polynomial", "exponential") else 1e-12
    assert rates == pytest.approx(torch_rates(name, options), rel=rel, abs=1e-14)


@pytest.mark.parametrize("name", OPTIONS)
@untimed
@given(
    data=st.data(),
    lr=st.floats(1e-8, 10),
    t=st.integers(0, 100_000),
    epochs=st.integers(1, 300),
    steps=st.integers(1, 1000),
)
def test_finite_and_not_negative(name, data, lr, t, epochs, steps) -> None:
    options = data.draw(OPTIONS[name])
    given_options = data.draw(st.sets(st.sampled_from(sorted(options)), min_size=1))
    kept = {key: options[key] for key in given_options}
    rate = build(name, kept, Horizon(epochs, steps))(lr, t)
    assert isfinite(rate)
    assert 0 <= rate <= max(lr, options.get("eta_min", 0.0)) * (1 + 1e-12)


def test_linear_ends_at_zero_where_a_plain_sum_rounds_below_it() -> None:
    options = {"start_factor": 0.9972935727221266, "total": 67}
    assert build("linear", options, Horizon(100, 1))(1.0, 67) == 0.0


def schedule(record: Scheduler, choice: Choice[Scheduler], horizon: Horizon) -> Schedule:
    built = record.build(choice.options, horizon)
    assert callable(built)
    return built


@pytest.mark.parametrize("name", registered(Scheduler))
def test_keeps_the_contract(name) -> None:
    for options in registered(Scheduler)[name].tiny:
        choice = Choice.of("schedulers", {"name": name, **options})
        assert_keeps_contract(choice, DataInfo(Task.REGRESSION, (4,)))


@pytest.mark.parametrize("name", registered(Scheduler))
def test_needs_length_says_whether_a_longer_run_begins_alike(name) -> None:
    record = registered(Scheduler)[name]
    for tiny in ({}, *record.tiny):
        choice = Choice.of("schedulers", {"name": name, **tiny})
        if record.driven_by == "metric":
            assert not record.needs_length(choice.options)
            continue
        short, long = (
            [schedule(record, choice, Horizon(epochs, 3))(1.0, t) for t in range(18)]
            for epochs in (6, 12)
        )
        assert record.needs_length(choice.options) == (short != long)
        beyond_the_end = schedule(record, choice, Horizon(6, 3))(1.0, 1000)
        assert all(isfinite(rate) and rate >= 0 for rate in (*short, *long, beyond_the_end))


def test_some_options_replace_the_length() -> None:
    settled = [
        ("step", {"step_size": 2}),
        ("multistep", {"milestones": [2]}),
        ("cosine", {"t_max": 2}),
        ("cosine_restarts", {"t_0": 2}),
        ("linear", {"total": 2}),
        ("polynomial", {"total": 2}),
    ]
    for name, options in settled:
        record = registered(Scheduler)[name]
        assert record.needs_length(record.options())
        assert not record.needs_length(record.options.model_validate(options))


def test_options_tell_time_from_metric() -> None:
    for record in registered(Scheduler).values():
        base = TimeScheduleOptions if record.driven_by == "time" else MetricScheduleOptions
        assert issubclass(record.options, base)


def test_only_onecycle_steps_by_batch() -> None:
    records = registered(Scheduler)
    units = {name: records[name].options.model_fields["by"].default for name in OPTIONS}
    assert units.pop("onecycle") == "batch"
    assert set(units.values()) == {"epoch"}


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("step", {"step_size": 0}, "step_size"),
        ("step", {"gamma": 1.5}, "gamma"),
        ("step", {"by": "second"}, "by"),
        ("step", {"warmup_epochs": -1.0}, "warmup_epochs"),
        ("multistep", {"milestones": [3, 2]}, "increasing"),
        ("multistep", {"milestones": [2, 2]}, "increasing"),
        ("multistep", {"milestones": [0, 2]}, "above 0"),
        ("multistep", {"milestones": []}, "at least one"),
        ("cosine", {"T_max": 3}, "T_max"),
        ("cosine", {"eta_min": -0.1}, "eta_min"),
        ("cosine_restarts", {"t_mult": 0}, "t_mult"),
        ("linear", {"end_factor": 2.0}, "end_factor"),
        ("polynomial", {"power": 0.0}, "power"),
        ("onecycle", {"pct_start": 1.1}, "pct_start"),
        ("onecycle", {"three_phase": True, "pct_start": 0.6}, "at most 0.5"),
        ("onecycle", {"cycle_momentum": True}, "cycle_momentum"),
        ("plateau", {"metric": "test/loss"}, "must not influence"),
        ("plateau", {"metric": "loss"}, "val/loss"),
        ("plateau", {"metric": "val/"}, "val/loss"),
        ("plateau", {"metric": "val/accuracy"}, "mode should say"),
        ("plateau", {"factor": 1.0}, "factor"),
        ("plateau", {"by": "epoch"}, "by"),
    ],
)
def test_refused_options(name, options, said) -> None:
    with pytest.raises(ValidationError, match=said):
        registered(Scheduler)[name].options.model_validate(options)


def plateau(**options):
    return build("plateau", options, Horizon(10, 10))


def test_plateau_table() -> None:
    # patience 1: the second value in a row that is no better, and not only the first
    schedule = plateau(patience=1, factor=0.5, cooldown=1)
    rates = []
    for value in [1.0, 0.9, 0.9, 0.95, 0.95, 0.95, 0.95, 0.8, 0.9]:
        schedule.step(value)
        rates.append(schedule.lr(1.0))
    assert rates == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]


def test_plateau_stops_at_its_floor() -> None:
    schedule = plateau(patience=0, factor=0.1, min_lr=0.03)
    rates = []
    for _ in range(4):
        schedule.step(1.0)
        rates.append(schedule.lr(1.0))
    assert rates == pytest.approx([1, 0.1, 0.03, 0.03], rel=1e-15)


def test_plateau_does_not_lift_a_rate_below_its_floor() -> None:
    schedule = plateau(patience=0, min_lr=0.5)
    schedule.step(1.0)
    schedule.step(1.0)
    assert schedule.lr(0.2) == 0.2


def test_plateau_counts_nan_as_no_improvement() -> None:
    schedule = plateau(patience=0, factor=0.5)
    for value in (1.0, float("nan"), 0.5):
        schedule.step(value)
    assert schedule.lr(1.0) == 0.5


plateau_options = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(["min", "max"]),
        "factor": st.floats(0.05, 0.95),
        "patience": st.integers(0, 4),
        "threshold": st.sampled_from([0.0, 1e-4, 0.1]),
        "threshold_mode": st.sampled_from(["rel", "abs"]),
        "cooldown": st.integers(0, 3),
        "min_lr": st.sampled_from([0.0, 0.01, 0.5]),
        "eps": st.sampled_from([0.0, 1e-8, 0.05]),
    }
)
observed = st.lists(st.sampled_from([-1.0, 0.0, 0.5, 0.95, 1.0, 1.05, 2.0]), max_size=STEPS)


class SignedPlateau(lr_scheduler.ReduceLROnPlateau):
    """torch's, except that a relative threshold of a negative best value lies beyond it."""

    def _is_better(self, value: float, best: float) -> bool:
        if self.threshold_mode == "rel" and -float("inf") < best < 0:
            distance = best - value if self.mode == "min" else value - best
            return bool(distance > -best * self.threshold)
        return bool(super()._is_better(value, best))


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("value", [-1000.0, -1.0, -1e-9, 0.0, 1e-9, 1.0])
def test_a_metric_that_stands_still_lowers_the_rate_whatever_its_sign(
    mode: str, value: float
) -> None:
    schedule = plateau(mode=mode, patience=1, factor=0.5)
    for _ in range(3):
        schedule.step(value)
    assert schedule.lr(1.0) == 0.5
    better = value - max(abs(value), 1.0) if mode == "min" else value + max(abs(value), 1.0)
    schedule.step(better)
    schedule.step(better)
    assert schedule.lr(1.0) == 0.5, "an improvement starts the count again"


@pytest.mark.parametrize(
    ("options", "revised"),
    [
        ({}, False),
        ({"metric": "val/accuracy", "mode": "max"}, False),
        ({"metric": "val/r2", "mode": "max"}, True),
        ({"metric": "train/r2", "mode": "max"}, True),
        ({"metric": "val/r2", "mode": "max", "threshold_mode": "abs"}, False),
        ({"metric": "val/r2", "mode": "max", "threshold": 0.0}, False),
    ],
)
def test_only_trials_of_a_metric_that_may_be_negative_have_new_ids(
    options: dict[str, object], revised: bool
) -> None:
    trial = make_trial(scheduler={"name": "plateau", **options})
    assert ("revision" in str(trial.identity())) == revised


@untimed
@given(options=plateau_options, values=observed)
def test_plateau_equals_torch(options, values) -> None:
    ours = plateau(**options)
    optimizer = torch_optimizer()
    theirs = SignedPlateau(optimizer, **options)
    for value in values:
        ours.step(value)
        theirs.step(value)
        assert ours.lr(BASE) == optimizer.param_groups[0]["lr"]


@untimed
@given(options=plateau_options, values=observed, cut=st.integers(0, STEPS))
def test_plateau_resumes_where_it_was(options, values, cut) -> None:
    whole, resumed = plateau(**options), plateau(**options)
    for value in values[:cut]:
        whole.step(value)
    resumed.load_state_dict(whole.state_dict())
    for value in values[cut:]:
        whole.step(value)
        resumed.step(value)
    assert resumed.state_dict() == whole.state_dict()
    assert resumed.lr(BASE) == whole.lr(BASE)
