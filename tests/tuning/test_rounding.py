"""Proposed floats are short, and lose nothing that a search could tell."""

from __future__ import annotations

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from harness.tuning.samplers import RoundingSampler, round_value

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize(
    ("distribution", "value", "short"),
    [
        (FloatDistribution(1e-4, 1, log=True), 0.03650297304650816, 0.0365),
        (FloatDistribution(1e-4, 1, log=True), 0.0006313840416944027, 0.0006314),
        (FloatDistribution(0.5, 0.99), 0.8763441937362098, 0.8763),
        (FloatDistribution(0, 1000), 512.34567, 512),
        (FloatDistribution(1000, 1001, log=True), 1000.56789, 1000.568),
        (FloatDistribution(0, 1, step=0.1), 0.30000000000000004, 0.30000000000000004),
        (FloatDistribution(0.123456789, 1), 0.123456789, 0.123456789),
        (IntDistribution(1, 9), 4, 4),
        (CategoricalDistribution(["a", 0.123456789]), 0.123456789, 0.123456789),
    ],
)
def test_a_value_is_as_long_as_it_needs_to_be(
    distribution: optuna.distributions.BaseDistribution, value: float, short: float
) -> None:
    assert round_value(distribution, value) == short


@given(
    st.floats(1e-8, 1e8),
    st.floats(1.0000001, 1e8),
    st.floats(0, 1),
    st.booleans(),
)
def test_it_stays_in_its_range_and_close(low: float, ratio: float, at: float, log: bool) -> None:
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
def test_what_is_stored_is_what_was_rounded(sampler: type[optuna.samplers.BaseSampler]) -> None:
    study = optuna.create_study(sampler=RoundingSampler(sampler(seed=0)))  # type: ignore[call-arg]
    for _ in range(20):
        trial = study.ask()
        lr = trial.suggest_float("lr", 1e-4, 1, log=True)
        width = trial.suggest_float("width", 0, 1)
        study.tell(trial, lr + width)
        assert study.trials[-1].params == {"lr": lr, "width": width}
        assert float(f"{lr:.4g}") == lr
        assert round(width, 4) == width
