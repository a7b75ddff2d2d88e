"""Quasi-random points on every kind of range, and floats rounded to a few digits."""

from __future__ import annotations

import math
from decimal import Decimal
from pathlib import Path

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import qmc

from harness.core.text import format_value
from harness.experiment.experiment import Dimension, Method, NumericDimension, Objective, Search
from harness.experiment.fields import SAMPLERS
from harness.experiment.plan import PlannedTrial
from harness.experiment.ranges import round_within
from harness.tuning.attributes import TRIALS
from harness.tuning.proposals import Proposals
from harness.tuning.samplers import (
    QuasiRandomSampler,
    RoundingSampler,
    from_unit,
    round_value,
    suggest,
)
from harness.tuning.study_plan import StudyPlan
from tests.support import make_trial

optuna.logging.set_verbosity(optuna.logging.WARNING)

UNIT = st.floats(0, 1, exclude_max=True)


@given(UNIT, st.floats(1e-6, 1), st.floats(1, 1e6), st.booleans())
def test_floats_stay_within_their_bounds(unit: float, low: float, high: float, log: bool) -> None:
    assert low <= from_unit(FloatDistribution(low, high, log=log), unit) <= high


@given(UNIT, st.integers(1, 50), st.integers(0, 50), st.integers(1, 5), st.booleans())
def test_integers_stay_on_their_steps(
    unit: float, low: int, steps: int, step: int, log: bool
) -> None:
    distribution = IntDistribution(low, low + steps * step, log=log, step=1 if log else step)
    value = from_unit(distribution, unit)
    assert isinstance(value, int)
    assert low <= value <= distribution.high
    assert log or (value - low) % step == 0


@pytest.mark.parametrize(
    ("distribution", "unit", "value"),
    [
        (FloatDistribution(1e-4, 1, log=True), 0.5, 1e-2),
        (FloatDistribution(0, 10), 0.25, 2.5),
        (FloatDistribution(0, 1, step=0.5), 0.34, 0.5),
        (IntDistribution(1, 3), 0.99, 3),
        (CategoricalDistribution(["a", "b", "c"]), 0.34, "b"),
    ],
)
def test_a_point_of_the_unit_interval_maps_to_a_value(
    distribution: BaseDistribution, unit: float, value: object
) -> None:
    found = from_unit(distribution, unit)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)


def test_each_point_is_the_sequences_point_of_that_number() -> None:
    expected = qmc.Halton(2, scramble=True, seed=3).random(20)
    distribution = FloatDistribution(0, 1)
    for ordinal in (0, 19, 7):
        sampler = QuasiRandomSampler(["a", "b"], ordinal, "halton", 3)
        found = [
            sampler.sample_independent(None, None, name, distribution)  # type: ignore[arg-type]
            for name in "ab"
        ]
        assert found == pytest.approx(expected[ordinal].tolist())


@pytest.mark.parametrize("sequence", ["halton", "sobol"])
def test_quasi_random_points_fill_the_interval_more_evenly_than_chance(sequence: str) -> None:
    distribution = FloatDistribution(0, 1)
    values = sorted(
        QuasiRandomSampler(["a"], n, sequence, 1).sample_independent(None, None, "a", distribution)  # type: ignore[arg-type]
        for n in range(32)
    )
    gaps = [b - a for a, b in zip([0.0, *values], [*values, 1.0], strict=True)]
    assert max(gaps) < 2.5 / 32, "chance leaves a gap of about log(32)/32 = 3.5/32"
    assert math.isclose(sum(gaps), 1)


@pytest.mark.parametrize(
    ("distribution", "value", "short"),
    [
        (FloatDistribution(1e-4, 1, log=True), 0.03650297304650816, 0.0365),
        (FloatDistribution(1e-4, 1, log=True), 0.0006313840416944027, 0.0006314),
        (FloatDistribution(0.5, 0.99), 0.8763441937362098, 0.8763),
        (FloatDistribution(0, 1000), 512.34567, 512),
        (FloatDistribution(1000, 1001, log=True), 1000.56789, 1000.568),
        (FloatDistribution(0, 1, step=0.1), 0.30000000000000004, 0.3),
        (FloatDistribution(0.123456789, 1), 0.123456789, 0.123456789),
        (IntDistribution(1, 9), 4, 4),
        (CategoricalDistribution(["a", 0.123456789]), 0.123456789, 0.123456789),
    ],
)
def test_rounding_keeps_four_digits_of_continuous_ranges(
    distribution: optuna.distributions.BaseDistribution, value: float, short: float
) -> None:
    assert round_value(distribution, value) == short


@given(
    st.floats(1e-8, 1e8),
    st.floats(1.0000001, 1e8),
    st.floats(0, 1),
    st.booleans(),
)
def test_a_rounded_value_is_close_and_in_its_range(
    low: float, ratio: float, at: float, log: bool
) -> None:
    high = low * ratio
    value = min(max(low * ratio**at, low), high)
    found = round_value(FloatDistribution(low, high, log=log), value)
    assert low <= found <= high
    assert abs(found - value) <= (high - low) / 1000
    if log:
        assert abs(found - value) <= value / 1000


@pytest.mark.parametrize(
    "sampler",
    [optuna.samplers.TPESampler, optuna.samplers.RandomSampler, optuna.samplers.CmaEsSampler],
)
def test_the_stored_value_is_the_rounded_one(sampler: type[optuna.samplers.BaseSampler]) -> None:
    study = optuna.create_study(sampler=RoundingSampler(sampler(seed=0)))  # type: ignore[call-arg]
    for _ in range(20):
        trial = study.ask()
        lr = trial.suggest_float("lr", 1e-4, 1, log=True)
        width = trial.suggest_float("width", 0, 1)
        study.tell(trial, lr + width)
        assert study.trials[-1].params == {"lr": lr, "width": width}
        assert float(f"{lr:.4g}") == lr
        assert round(width, 4) == width


@pytest.mark.parametrize("sampler", SAMPLERS)
@settings(max_examples=4, deadline=None)
@given(
    low=st.integers(-30, 30),
    step=st.integers(1, 7),
    count=st.integers(1, 12),
    places=st.integers(0, 5),
    seed=st.integers(0, 100),
)
def test_every_sampler_gives_the_decimals_of_a_stepped_range(
    sampler: str, low: int, step: int, count: int, places: int, seed: int
) -> None:
    unit = Decimal(1).scaleb(-places)
    allowed = [(low + n * step) * unit for n in range(count + 1)]
    dimension = NumericDimension(
        "lr", float(allowed[0]), float(allowed[-1]), step=float(step * unit)
    )
    for value in drawn(sampler, [dimension], seed, points=min(count + 1, 6)):
        assert Decimal(repr(value)) in allowed
        assert repr(value) != "-0.0"
        assert dimension.contains(value)


@pytest.mark.parametrize("sampler", [name for name in SAMPLERS if name != "grid"])
@settings(max_examples=6, deadline=None)
@given(
    low=st.floats(1e-8, 1),
    factor=st.floats(1, 1e6),
    log=st.booleans(),
    seed=st.integers(0, 100),
)
def test_every_sampler_stays_within_a_continuous_range(
    sampler: str, low: float, factor: float, log: bool, seed: int
) -> None:
    high = low * factor
    dimension = NumericDimension("lr", low, high, log=log)
    for value in drawn(sampler, [dimension], seed, points=5):
        assert low <= value <= high
        assert value == round_within(low, high, value, log), "one spelling in every sampler"
        assert float(format_value(value)) == value


def drawn(name: str, space: list[Dimension], seed: int, points: int) -> list[float]:
    """Returns the values of a field that a sampler draws, each told a result."""
    search = make_search(name, space, seed)
    study_plan = StudyPlan(
        "all", PlannedTrial(make_trial(), "", "", "", {}), tuple(space), search, (), Path()
    )
    study = optuna.create_study()
    proposals = Proposals(study_plan, study)
    values = []
    for _ in range(points):
        trial = proposals.reserve(n_left_out=0)
        trial.set_user_attr(TRIALS, [])
        values.append(suggest(trial, space[0]))
        study.tell(trial, (values[-1] - 0.3) ** 2)
    return values


def make_search(sampler: str, space: list[Dimension], seed: int) -> Search:
    startup = {"n_startup_trials": 2} if sampler in ("tpe", "gp", "cmaes") else {}
    options = SAMPLERS[sampler].model_validate(startup).model_dump(exclude_none=True)
    return Search(
        per=(),
        space=tuple(space),
        known=(),
        trials=5,
        minutes=None,
        patience=None,
        seeds=(0,),
        objectives=(Objective("val/loss", "min"),),
        sampler=Method(sampler, options),
        pruner=Method("none"),
        seed=seed,
        retrain_seeds=0,
        storage="",
    )
