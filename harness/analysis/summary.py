"""One config's scores over its seeds: centre, spread, and how far the centre can be trusted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LEVEL = 0.95
"""Confidence of every interval."""
RESAMPLES = 4000
FEWEST = 3
"""Values below which no interval is given: two have three distinct resamples."""

Method = Literal["BCa", "percentile", "degenerate", "insufficient data"]


@dataclass(frozen=True, slots=True)
class Interval:
    """A bootstrap interval at `LEVEL`. method: "degenerate" where all resamples agree, so that
    there is none; "insufficient data" below `FEWEST` values. low, high: None in both cases."""

    low: float | None
    high: float | None
    method: Method


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """n: values. sd: with n − 1. iqm: the mean of the middle half. interval: of the mean. None
    where there are too few values."""

    n: int
    mean: float | None
    sd: float | None
    median: float | None
    iqm: float | None
    interval: Interval


def summarise_values(values: Sequence[float], generator: np.random.Generator) -> Summary:
    """Summarise finite values, in any unit."""
    data = finite(values)
    if not data.size:
        return Summary(
            n=0, mean=None, sd=None, median=None, iqm=None, interval=bootstrap(data, generator)
        )
    return Summary(
        n=data.size,
        mean=float(data.mean()),
        sd=float(data.std(ddof=1)) if data.size > 1 else None,
        median=float(np.median(data)),
        iqm=interquartile_mean(data),
        interval=bootstrap(data, generator),
    )


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """`values` as an array [n]. Raises ValueError where one is not finite: what diverged is
    counted, never averaged."""
    data = np.asarray(values, dtype=float)
    if data.ndim != 1 or not np.isfinite(data).all():
        raise ValueError(f"wanted finite values in one dimension, got shape {data.shape}")
    return data


def interquartile_mean(values: ArrayLike) -> float:
    """The mean without the lowest and the highest quarter (Agarwal et al., 2021)."""
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def bootstrap(
    values: NDArray[np.float64],
    generator: np.random.Generator,
    statistic: Callable[..., Any] = np.mean,
) -> Interval:
    """Efron's bias-corrected and accelerated interval of `statistic` (`scipy.stats.bootstrap`).

    statistic: takes `axis`.
    """
    if values.size < FEWEST:
        return Interval(None, None, "insufficient data")
    if np.ptp(values) == 0:
        return Interval(None, None, "degenerate")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (values,),
            statistic,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="BCa",
            random_state=generator,
        ).confidence_interval
    if not np.isfinite([found.low, found.high]).all():
        return Interval(None, None, "degenerate")
    return Interval(float(found.low), float(found.high), "BCa")


def percentile(samples: NDArray[np.float64]) -> Interval:
    """The middle `LEVEL` of resampled values [R]: for statistics over several strata, which BCa is
    not defined for."""
    if not np.isfinite(samples).all() or np.ptp(samples) == 0:
        return Interval(None, None, "degenerate")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(low), float(high), "percentile")
