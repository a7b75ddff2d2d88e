"""Statistics of columns against exact fractions, and what float32 can represent."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from harness.components.base import Imputer
from harness.components.shared.column_statistics import (
    StandardScaler,
    check_targets,
    fill_values,
    to_float32,
)
from harness.core.errors import InputError

NAN = float("nan")


@st.composite
def columns(draw: st.DrawFn) -> list[float]:
    """A column of any unit, often with an offset beside which its values are small."""
    unit = draw(st.sampled_from([1.0, 1e-320, 1e-300, 1e-40, 1e-3, 1e15, 1e150, 1e307]))
    offset = draw(st.sampled_from([0, 1, -1, 2**24, 2**40, 2**52])) if unit < 1e15 else 0
    values = draw(st.lists(st.integers(-9, 9), min_size=2, max_size=12))
    return [float(Fraction(unit) * (offset + value)) for value in values]


def exact_z(train: list[float], values: list[float]) -> list[Fraction]:
    """The standardised values, by whole numbers alone; the root to 60 digits."""
    known = [Fraction(value) for value in train]
    mean = sum(known, Fraction()) / len(known)
    variance = sum(((value - mean) ** 2 for value in known), Fraction()) / len(known)
    if variance == 0:
        return [Fraction(value) - mean for value in values]
    scale = Fraction(10) ** 120 / variance  # the square of what the values are multiplied by
    factor = Fraction(math.isqrt(int(scale * 10**800)), 10**460)
    return [(Fraction(value) - mean) * factor for value in values]


@settings(max_examples=150)
@given(train=columns(), place=st.integers(0, 11))
def test_standardised_values_are_the_exact_ones(train: list[float], place: int) -> None:
    others = [train[place % len(train)]]
    table = np.array([train, train[::-1]]).T
    scaler = StandardScaler.fit(table)
    ours = to_float32(scaler(np.array([others * 2])), ["x", "y"])
    wanted = np.float32(float(exact_z(train, others)[0]))
    assert np.allclose(ours, wanted, rtol=2e-7, atol=1e-7), (ours, wanted)


@settings(max_examples=100)
@given(column=columns(), gaps=st.integers(1, 3), by=st.sampled_from(["mean", "median"]))
def test_gaps_are_filled_with_the_exact_statistic(column, gaps, by) -> None:
    fill = fill_values(Imputer(by, ("x",)), np.array([[NAN]] * gaps + [[v] for v in column]))
    known = sorted(Fraction(value) for value in column)
    middle = (known[(len(known) - 1) // 2] + known[len(known) // 2]) / 2
    wanted = middle if by == "median" else sum(known, Fraction()) / len(known)
    largest = max(map(abs, known))
    assert abs(Fraction(float(fill[0])) - wanted) <= largest * Fraction(1, 2**51) + Fraction(5e-324)


def test_scaling_is_scikit_learns() -> None:
    from sklearn import preprocessing

    drawn = np.random.default_rng(0).normal(size=(50, 4)) * 100 + 7
    drawn[:, 2] = 3.3
    theirs = preprocessing.StandardScaler().fit_transform(drawn)
    assert np.allclose(StandardScaler.fit(drawn)(drawn), theirs, atol=1e-12)


@pytest.mark.parametrize("by", ["mean", "median"])
def test_imputation_is_scikit_learns(by) -> None:
    from sklearn.impute import SimpleImputer

    chance = np.random.default_rng(0)
    inputs = chance.normal(size=(50, 4))
    inputs[chance.random((50, 4)) < 0.3] = NAN
    fill = fill_values(Imputer(by, tuple("abcd")), inputs)
    assert np.allclose(fill, SimpleImputer(strategy=by).fit(inputs).statistics_, rtol=1e-14)


def test_a_missing_category_becomes_the_most_frequent() -> None:
    train = np.array([[1, 0, 5], [0, 1, 6], [0, 1, 7], [NAN, NAN, NAN]])
    imputer = Imputer("mean", ("a", "b", "c"), categories=((0, 2),))
    assert fill_values(imputer, train).tolist() == [0, 1, 6]


def test_a_column_without_a_known_value_cannot_be_imputed() -> None:
    train = np.array([[1.0, NAN], [2.0, NAN]])
    with pytest.raises(InputError, match=r"training split: b$"):
        fill_values(Imputer("mean", ("a", "b")), train)


REFUSED = {
    "beyond the range": [1e300, 2e300, 3e300],
    "whole numbers that merge": [16777216.0, 16777217.0, 16777216.0],
    "whole numbers of a wide range that are rounded": [1e6, 1e7, 123456789.0],
    "a large offset": [1e9 + 0.25, 1e9 + 0.5, 1e9],
    "below the range": [1e-320, 3e-320, 2e-320],
    "a constant below the range": [1e-60, 1e-60, 1e-60],
}


@pytest.mark.parametrize("values", REFUSED.values(), ids=REFUSED)
def test_values_that_float32_would_change_are_refused(values) -> None:
    table = np.array([[0.5] * 3, values]).T
    deviation = StandardScaler.fit(table).original_deviation
    with pytest.raises(InputError) as caught:
        to_float32(table, ["a", "b"], deviation)
    (problem,) = caught.value.problems
    assert "column 'b'" in problem.what
    assert "standardise: true" in problem.hint
    standardised = to_float32(StandardScaler.fit(table)(table), ["a", "b"])
    assert len(set(standardised[:, 1].tolist())) == len(set(values))


@settings(max_examples=100)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=9), st.sampled_from([1e-30, 1, 1e30]))
def test_values_are_accepted_only_where_rounding_hardly_counts(values, unit) -> None:
    table = np.array(values)[:, None] * unit
    assume(np.ptp(table) > 0)
    try:
        rounded = to_float32(table, ["x"], StandardScaler.fit(table).original_deviation)
    except InputError:
        return
    assert np.abs(rounded - table).max() <= 1e-3 * table.std()


@pytest.mark.parametrize("far", [1e300, -1e308])
def test_a_value_far_beyond_the_training_split_is_refused(far) -> None:
    scaler = StandardScaler.fit(np.array([[5.0], [5.0]]))
    with pytest.raises(InputError, match="column 'x'"):
        to_float32(scaler(np.array([[far]])), ["x"])


@pytest.mark.parametrize(
    "values",
    [
        [16777216, 16777217],
        [16777216, 16777217, 0],
        [1e39, 2e39],
        [1e20, 2e20],
        [1e-30, 2e-30],
        [1e6, 1e6 + 0.1],
    ],
)
def test_targets_whose_errors_float32_cannot_square_are_refused(values) -> None:
    with pytest.raises(InputError, match="column 'price'"):
        check_targets(np.array(values, dtype=np.float64)[:, None], "price")


@pytest.mark.parametrize(
    "values", [[1e-6, 2e-6], [2000, 2020], [2e5, 3e5], [0.1, 0.1], [1, 123456789], [5e-8, 1]]
)
def test_ordinary_targets_are_accepted(values) -> None:
    check_targets(np.array(values, dtype=np.float64)[:, None], "price")
