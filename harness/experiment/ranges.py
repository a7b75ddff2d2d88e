"""Exact arithmetic on ranges of numbers, as people write them in decimals.

A float stands for its shortest text: 0.1 is one tenth here. So 0.1 and two steps of 0.1 are 0.3,
never 0.30000000000000004, and every number of a range has one spelling.
"""

from __future__ import annotations

from fractions import Fraction
from math import floor, log10
from typing import Final

DIGITS: Final = 4
"""Drawn floats are rounded to this many digits: significant digits on a logarithmic scale, else
digits of the range's width, which leaves at least a thousand values."""


def _exact(value: float) -> Fraction:
    return Fraction(repr(value))


def count_steps(low: float, high: float, step: float) -> Fraction:
    """Returns how many steps lie between two numbers; a whole number if they end at `high`."""
    return (_exact(high) - _exact(low)) / _exact(step)


def is_on_step(low: float, value: float, step: float) -> bool:
    """Whether a value is a whole number of steps away from `low`."""
    return count_steps(low, value, step).denominator == 1


def at_step(low: float, step: float, number: int) -> float:
    """Returns the value so many steps above `low`."""
    return float(_exact(low) + number * _exact(step))


def nearest_step(low: float, high: float, step: float, value: float) -> float:
    """Returns the value of the range, `low` and some steps, that is nearest to a number."""
    number = round(count_steps(low, value, step))
    return at_step(low, step, min(max(number, 0), floor(count_steps(low, high, step))))


def round_within(low: float, high: float, value: float, log: bool) -> float:
    """Returns a number of a continuous range, rounded to `DIGITS` and kept within the bounds."""
    if not low < value < high:
        return min(max(value, low), high)
    decimals = DIGITS - 1 - floor(log10(high - low))
    if log:
        decimals = max(decimals, DIGITS - 1 - floor(log10(value)))
    rounded = round(value, decimals) + 0.0  # -0.0 + 0.0 is 0.0
    return min(max(rounded, low), high)
