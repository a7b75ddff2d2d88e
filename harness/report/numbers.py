"""Figures as people read them: as many decimals down a whole column, and the spread beside."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, isfinite, log10

DECIMALS = 4
MISSING = "–"
HUGE = 1e6


def decimals_for(values: Iterable[float | None]) -> int:
    """Decimals for a column, by its first value that is not 0: the best one, which matters most.

    Four below 10 (0.9832, 1.2345); fewer above (12.345, 123.45) and more below 0.1 (0.012345), so
    that at least four digits tell.
    """
    for value in values:
        if value and isfinite(value):
            magnitude = floor(log10(abs(value)))
            below = DECIMALS - 1 - magnitude if magnitude < -1 else DECIMALS - max(magnitude, 0)
            return min(max(below, 0), 12)
    return DECIMALS


def figure(value: float | None, decimals: int = DECIMALS) -> str:
    """A number with so many decimals; "–" where it is missing."""
    if value is None:
        return MISSING
    return f"{value:.3e}" if abs(value) >= HUGE else f"{value:.{decimals}f}"


def spread(mean: float | None, sd: float | None, decimals: int = DECIMALS) -> str:
    """Mean ± standard deviation: "0.9832 ± 0.0021"; "0.9832 ± –" with one seed."""
    if mean is None:
        return MISSING
    return f"{figure(mean, decimals)} ± {figure(sd, decimals)}"


def signed(value: float | None, decimals: int = DECIMALS) -> str:
    """A difference, with its sign; 0 has none."""
    if value is None:
        return MISSING
    return ("+" if value > 0 else "-" if value < 0 else "") + figure(abs(value), decimals)
