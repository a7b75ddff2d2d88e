"""Quasi-random points on every kind of range."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from scipy.stats import qmc

from harness.tuning.samplers import QuasiRandomSampler, from_unit

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
def test_where_a_point_of_the_unit_interval_lies(
    distribution: BaseDistribution, unit: float, value: object
) -> None:
    found = from_unit(distribution, unit)
    assert found == (pytest.approx(value) if isinstance(value, float) else value)


def test_the_points_are_those_of_the_sequence_whatever_came_before() -> None:
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
def test_they_fill_the_interval_more_evenly_than_chance(sequence: str) -> None:
    distribution = FloatDistribution(0, 1)
    values = sorted(
        QuasiRandomSampler(["a"], n, sequence, 1).sample_independent(None, None, "a", distribution)  # type: ignore[arg-type]
        for n in range(32)
    )
    gaps = [b - a for a, b in zip([0.0, *values], [*values, 1.0], strict=True)]
    assert max(gaps) < 2.5 / 32, "chance leaves a gap of about log(32)/32 = 3.5/32"
    assert math.isclose(sum(gaps), 1)
