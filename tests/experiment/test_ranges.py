"""Arithmetic on ranges, against decimals and fractions."""

from __future__ import annotations

from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.text import format_value
from harness.experiment.experiment import NumericDimension
from harness.experiment.ranges import at_step, count_steps, is_on_step, nearest_step, round_within
from harness.tuning.study_plan import grid_values
from tests.experiment.experiment_support import Load, Problems

quick = settings(max_examples=200, deadline=None)


def decimals(most: int, places: int) -> st.SearchStrategy[Decimal]:
    """Draws decimals of a few places, as people write them."""
    return st.integers(-most, most).flatmap(
        lambda number: st.integers(0, places).map(lambda place: Decimal(number).scaleb(-place))
    )


STEPS = decimals(10**4, 6).map(abs).filter(bool)


@quick
@given(decimals(10**6, 6), STEPS, st.integers(0, 1000), st.integers(0, 1000))
def test_steps_are_those_of_decimal_arithmetic(
    low: Decimal, step: Decimal, number: int, more: int
) -> None:
    with localcontext(prec=100):
        high, wanted = low + (number + more) * step, low + number * step
        ends = float(low), float(high), float(step)
    assert at_step(ends[0], ends[2], number) == float(wanted)
    assert count_steps(*ends) == number + more
    assert is_on_step(ends[0], float(wanted), ends[2])
    for noise in (1 - 3e-16, 1, 1 + 3e-16):  # what a sampler's own arithmetic yields
        found = nearest_step(*ends, float(wanted) * noise)
        assert Decimal(repr(found)) == wanted
        assert ends[0] <= found <= ends[1]
        assert repr(found) != "-0.0"


@quick
@given(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.floats(0, 1),
    st.booleans(),
)
def test_a_rounded_number_stays_in_its_range_and_is_near(
    one: float, other: float, unit: float, log: bool
) -> None:
    low, high = sorted((abs(one), abs(other)) if log else (one, other))
    value = low + unit * (high - low)
    found = round_within(low, high, value, log)
    assert low <= found <= high
    assert round_within(low, high, found, log) == found, "rounding twice changes nothing"
    assert float(format_value(found)) == found, "what is printed is what is trained"
    assert repr(found) != "-0.0" or low == 0
    off = abs(Fraction(found) - Fraction(value))
    assert off <= (Fraction(high) - Fraction(low)) / 1000 + Fraction(2.0**-1000)
    if log and low < found < high:
        assert len(Decimal(repr(found)).normalize().as_tuple().digits) <= 17


@pytest.mark.parametrize(
    ("low", "high", "value", "log", "expected"),
    [
        (1e-4, 1.0, 0.03650297304650816, True, 0.0365),
        (1e-4, 0.7, 0.7000000000000001, True, 0.7),
        (0.1, 1.0, 0.09999999999999999, True, 0.1),
        (-1.0, 1.0, -0.00001, False, 0.0),
        (0.5, 0.99, 0.7342187, False, 0.7342),
        (3.0, 3.0, 3.0, False, 3.0),
    ],
)
def test_rounded_numbers(low: float, high: float, value: float, log: bool, expected: float) -> None:
    assert repr(round_within(low, high, value, log)) == repr(expected)


def test_the_values_of_a_range_are_the_decimals_that_a_person_reads() -> None:
    tenths = NumericDimension("lr", 0.1, 0.9, step=0.1)
    assert grid_values(tenths) == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert all(map(tenths.contains, grid_values(tenths)))
    assert not tenths.contains(0.1 + 2 * 0.1), "another spelling would be another trial"
    large = NumericDimension("x", 2**60 + 1, 2**60 + 3, step=2, integer=True)
    assert grid_values(large) == [2**60 + 1, 2**60 + 3]


FILE = """\
trial: {dataset: digits, model: mlp, lr: 0.1}
grid: {optimizer: [sgd, momentum], seed: [0]}
search:
  space:
    lr: {RANGE}
"""


@pytest.mark.parametrize(
    ("text", "rule", "hint"),
    [
        ("low: 0, high: 1, step: 0.333333333", "1 is not a whole number", "is 0.999999999"),
        ("low: 0.1, high: 0.95, step: 0.1", "0.95 is not a whole number", "is 0.9"),
        ("low: 1.0, high: 2.0, step: 1e-17", "1e-17 is finer than a float", ""),
        ("low: 1, high: 10, step: 1.7e+308", "10 is not a whole number", "is 1"),
        ("low: -1.7e+308, high: 1.7e+308", "too far above low", ""),
    ],
)
def test_ranges_that_cannot_be_meant(problems: Problems, text: str, rule: str, hint: str) -> None:
    file = FILE.replace("RANGE", text).replace("    lr: {", "    optimizer.momentum: {")
    found = [p for p in problems(file) if rule in p.what]
    assert found
    assert hint in found[0].hint


def test_a_range_of_exact_steps_is_accepted(load_text: Load) -> None:
    search = load_text(FILE.replace("RANGE", "low: 0.1, high: 0.7, step: 0.2")).search
    assert search is not None
    (lr,) = (d for d in search.space if d.field == "lr")
    assert grid_values(lr) == [0.1, 0.3, 0.5, 0.7]
