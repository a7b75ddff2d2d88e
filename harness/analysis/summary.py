"""Scores over seeds: centre, spread, and bootstrap intervals."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
"""Confidence level of every interval."""
RESAMPLES = 4000
FEWEST = 3
"""Fewest values for an interval: two values have only three distinct resamples."""

Method = Literal["BCa", "percentile", "degenerate", "insufficient data"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval at `LEVEL`.

    `method` is "degenerate" where all resamples agree and "insufficient data" for fewer than
    `FEWEST` values; `low` and `high` are then None.
    """

    low: float | None
    high: float | None
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Statistics of n values; None where there are too few values.

    sd: standard deviation with n − 1. iqm: interquartile mean. interval: of the mean.
    """

    n: int
    mean: float | None
    sd: float | None
    median: float | None
    iqm: float | None
    interval: Interval


def summarise_values(values: Sequence[float], generator: np.random.Generator) -> Summary:
    """Summarises finite values. Raises ValueError if a value is not finite: trials that diverged
    are counted, never averaged."""
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not np.isfinite(data).all():
        raise ValueError(f"expected finite values in one dimension, got shape {data.shape}")
    return Summary(
        n=data.size,
        mean=float(data.mean()) if data.size else None,
        sd=float(data.std(ddof=1)) if data.size > 1 else None,
        median=float(np.median(data)) if data.size else None,
        iqm=interquartile_mean(data) if data.size else None,
        interval=bootstrap(data, generator),
    )


def interquartile_mean(values: ArrayLike) -> float:
    """Returns the mean without the lowest and the highest quarter (Agarwal et al., 2021)."""
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def bootstrap(
    values: NDArray[np.float64],
    generator: np.random.Generator,
    statistic: Callable[..., Any] = np.mean,
) -> Interval:
    """Returns the bias-corrected and accelerated (BCa) interval of a statistic (Efron, 1987).

    statistic: a function of an array that accepts `axis`.
    """
    if values.size < FEWEST:
        return Interval(None, None, "insufficient data")
    if np.ptp(values) == 0:
        return Interval(None, None, "degenerate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        limits = stats.bootstrap(
            (values,),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="BCa",
            random_state=generator,
        ).confidence_interval
    if not np.isfinite([limits.low, limits.high]).all():
        return Interval(None, None, "degenerate")
    return Interval(float(limits.low), float(limits.high), "BCa")


def percentile(samples: NDArray[np.float64]) -> Interval:
    """Returns the middle `LEVEL` of resampled values [R].

    It serves statistics over several strata, for which BCa is not defined.
    """
    if not np.isfinite(samples).all() or np.ptp(samples) == 0:
        return Interval(None, None, "degenerate")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(low), float(high), "percentile")
