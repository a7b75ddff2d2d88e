"""Figures as people read them."""

from __future__ import annotations

import pytest

from harness.report.formatting import decimals_for, figure, signed, spread


@pytest.mark.parametrize(
    ("value", "decimals"),
    [(0.98, 4), (9.99, 4), (10.0, 3), (123.4, 2), (54321.0, 0), (0.5, 4), (0.012345, 5), (1e-6, 9)],
)
def test_at_least_four_digits_are_significant(value: float, decimals: int) -> None:
    assert decimals_for([value]) == decimals


def test_a_column_follows_its_first_value_that_is_not_zero() -> None:
    assert decimals_for([None, 0.0, 0.0123, 1e9]) == 5
    assert decimals_for([None, 0.0]) == 4
    assert decimals_for([float("inf"), 12.0]) == 3


def test_spread() -> None:
    assert spread(0.98316, 0.0021) == "0.9832 ± 0.0021"
    assert spread(0.5, None) == "0.5000 ± –"
    assert spread(None, None) == "–"
    assert spread(0.5, 0.0) == "0.5000 ± 0.0000"


def test_figures() -> None:
    assert figure(4.3e8) == "4.300e+08"
    assert signed(0.01, 3) == "+0.010"
    assert signed(-0.01, 3) == "-0.010"
    assert signed(0.0, 3) == "0.000"
    assert signed(None) == "–"
