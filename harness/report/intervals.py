"""Intervals and probabilities as people read them."""

from __future__ import annotations

from harness.analysis.summary import Interval
from harness.report.numbers import MISSING, figure

FEW = "insufficient data"


def bracketed(interval: Interval, decimals: int) -> str:
    """ "[0.81, 0.99]"; the reason where there is none."""
    if interval.low is None or interval.high is None:
        return interval.method
    return f"[{figure(interval.low, decimals)}, {figure(interval.high, decimals)}]"


def probability(value: float | None) -> str:
    """ ".94" as statisticians write it: a leading 0 would say nothing."""
    if value is None:
        return MISSING
    text = f"{value:.2f}"
    return text if text.startswith("1") else text[1:]


def probable(value: float | None, interval: Interval) -> str:
    """ ".94 [.81, .99]"."""
    if interval.low is None or interval.high is None:
        return f"{probability(value)} (interval {interval.method})"
    return f"{probability(value)} [{probability(interval.low)}, {probability(interval.high)}]"


def p_value(p: float | None) -> str:
    """ ".031"; "<.001"."""
    if p is None:
        return MISSING
    if p < 0.001:
        return "<.001"
    return "1" if p >= 0.9995 else f"{p:.3f}"[1:]
