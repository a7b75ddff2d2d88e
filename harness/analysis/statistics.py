"""Statistics of plain numbers: summaries over seeds with bootstrap intervals, and tests of whether
contenders differ: Wilcoxon's with Holm's adjustment, Friedman's with Nemenyi's difference."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.analysis.resolution import DOUBLE, differences, noise_of, power_of_two, resolve
from harness.core.errors import InputError

ALPHA = 0.05
"""Level of every test."""
EXACT_BELOW = 200
"""Most pairs for which the null distribution is enumerated; for more it is close to normal."""
FEWEST = 3
"""Fewest values for an interval: two values have only three distinct resamples."""
LEVEL = 0.95
"""Confidence level of every interval."""
RESAMPLES = 4000

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


NO_INTERVAL = Interval(None, None, "insufficient data")


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


def summarise_values(
    values: Sequence[float], generator: np.random.Generator, resolution: float = DOUBLE
) -> Summary:
    """Summarises finite values. Raises ValueError if a value is not finite: trials that diverged
    are counted, never averaged."""
    data = resolve(values, resolution)
    if data.ndim != 1 or not np.isfinite(data).all():
        raise ValueError(f"expected finite values in one dimension, got shape {data.shape}")
    return Summary(
        n=data.size,
        mean=float(data.mean()) if data.size else None,
        sd=standard_deviation(data) if data.size > 1 else None,
        median=float(np.median(data)) if data.size else None,
        iqm=interquartile_mean(data) if data.size else None,
        interval=bootstrap(data, generator, noise_of(data, resolution=resolution)),
    )


def standard_deviation(values: NDArray[np.float64]) -> float:
    """Returns the standard deviation with n − 1, of values of any size: squares of 1e-200 are 0."""
    if np.ptp(values) == 0:
        return 0.0
    scale = power_of_two(np.abs(values).max())
    return float(scale * (values / scale).std(ddof=1))


def interquartile_mean(values: ArrayLike) -> float:
    """Returns the mean without the lowest and the highest quarter (Agarwal et al., 2021)."""
    return float(stats.trim_mean(np.asarray(values, dtype=float), 0.25))


def bootstrap(
    values: NDArray[np.float64], generator: np.random.Generator, noise: float | None = None
) -> Interval:
    """Returns the bias-corrected and accelerated (BCa) interval of the mean (Efron, 1987).

    noise: how much of a value is rounding alone, by default what double precision has. A resampled
        mean that is so close to the mean equals it: BCa counts how many lie below.
    """
    if values.size < FEWEST:
        return NO_INTERVAL
    if np.ptp(values) == 0:
        return Interval(None, None, "degenerate")
    noise = max(noise_of(values) if noise is None else noise, noise_of(values, resolution=2.0**-48))
    centre = float(values.mean())
    scale = power_of_two(np.abs(values - centre).max())

    def mean(sample: NDArray[np.float64], axis: int = -1) -> NDArray[np.float64]:
        means = np.asarray(sample.mean(axis=axis))
        return np.where(np.abs(means) <= noise / scale, 0.0, means)

    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        limits = stats.bootstrap(
            ((values - centre) / scale,),
            mean,
            n_resamples=RESAMPLES,
            confidence_level=LEVEL,
            method="BCa",
            random_state=generator,
        ).confidence_interval
    ends = centre + scale * np.array([limits.low, limits.high])
    if not np.isfinite(ends).all():
        return Interval(None, None, "degenerate")
    low, high = np.where(np.abs(ends) <= noise, 0.0, ends).tolist()
    return Interval(low, high, "BCa")


def percentile(samples: NDArray[np.float64]) -> Interval:
    """Returns the middle `LEVEL` of resampled values [R].

    It serves statistics over several strata, for which BCa is not defined.
    """
    samples = resolve(samples)
    if not np.isfinite(samples).all() or np.ptp(samples) == 0:
        return Interval(None, None, "degenerate")
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(low), float(high), "percentile")


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> Fraction:
    """Returns P(a > b) + P(a = b) / 2 over all combinations of a [n] and b [m].

    This is the probability of improvement of Agarwal et al. (2021), Mann–Whitney's U / (n m). −inf
    is worse than any value. It is a fraction: a mean over tasks is then one half, or it is not.
    """
    first, second = np.asarray(a, dtype=float)[:, None], np.asarray(b, dtype=float)[None, :]
    halves = 2 * int((first > second).sum()) + int((first == second).sum())
    return Fraction(halves, 2 * first.size * second.size)


def ordered_differences(
    a: ArrayLike, b: ArrayLike, resolution: float = DOUBLE
) -> NDArray[np.float64]:
    """Returns a − b for tests that read signs and ranks alone.

    A trial that diverged differs from any value by infinity, and two of them do not differ.
    """
    return differences(a, b, resolution, diverged=0.0)


def signed_rank(strata: Sequence[ArrayLike]) -> tuple[float | None, float | None]:
    """Wilcoxon's signed-rank test (1945), two-sided, of differences ranked within each stratum [n].

    Returns p and the lowest p that this number of differences allows. Differences of 0 are left
    out, as Wilcoxon does; (None, None) if no other is left. The test is exact with ties too, by
    enumeration of all signs, where SciPy uses the normal distribution. Tied ranks are averaged.
    """
    arrays = (np.asarray(stratum, dtype=float) for stratum in strata)
    nonzero = [differences[differences != 0] for differences in arrays]
    positive = np.concatenate([differences > 0 for differences in nonzero])
    # Average ranks are multiples of one half; doubled, they are whole and their sums exact.
    ranks = np.concatenate([np.rint(2 * stats.rankdata(np.abs(values))) for values in nonzero])
    if not ranks.size:
        return None, None
    floor = min(1.0, 2.0 ** (1 - ranks.size))
    total = float(ranks[positive].sum())
    if ranks.size > EXACT_BELOW:
        z = (total - ranks.sum() / 2) / np.sqrt((ranks**2).sum() / 4)
        return float(2 * stats.norm.sf(abs(z))), floor
    smaller = int(min(total, ranks.sum() - total))
    probabilities = _rank_sum_probabilities(ranks.astype(int))
    return min(1.0, 2 * float(probabilities[: smaller + 1].sum())), floor


def _rank_sum_probabilities(ranks: NDArray[np.int_]) -> NDArray[np.float64]:
    """Returns the probability of each sum of ranks, from 0 up, if each rank counts with probability
    one half."""
    probabilities = np.ones(1)
    for rank in ranks:
        longer = np.zeros(probabilities.size + rank)
        longer[: probabilities.size] += probabilities / 2
        longer[rank:] += probabilities / 2
        probabilities = longer
    return probabilities


def holm(p: Sequence[float]) -> list[float]:
    """Returns p-values adjusted by Holm's step-down method (1979): of m values, the i-th smallest
    times m − i, and never below the adjusted value of a smaller one."""
    order = np.argsort(p, kind="stable")
    stepped = np.minimum(1.0, np.arange(len(p), 0, -1) * np.asarray(p)[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.maximum.accumulate(stepped)
    return adjusted.tolist()


@dataclass(frozen=True, slots=True)
class Friedman:
    """Friedman's test (1937) of whether the contenders differ at all, and Nemenyi's critical
    difference: how far two average ranks must lie apart to differ at .05 (Demšar, 2006).

    groups: the largest sets of contenders, best first, that do not differ by more than that.
    """

    tasks: int
    statistic: float
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


def average_ranks(scores: ArrayLike, resolution: float = DOUBLE) -> NDArray[np.float64]:
    """Returns the average rank of each contender, 1 the best; ties share a rank.

    scores: [task, contender], higher is better. Raises InputError if one is missing.
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or np.isnan(table).any():
        raise InputError("scores must be a whole table [task, contender]: one is missing")
    return np.asarray(stats.rankdata(-resolve(table, resolution), axis=1).mean(axis=0))


def friedman_test(
    scores: ArrayLike, contenders: Sequence[str], resolution: float = DOUBLE
) -> Friedman | None:
    """Returns None for fewer than three contenders or two tasks: the test is then not defined.

    scores: [task, contender], higher is better.
    """
    table = resolve(scores, resolution)
    tasks, k = table.shape
    if tasks < 2 or k < 3:
        return None
    ranks = average_ranks(table, resolution)
    if (table == table[:, :1]).all():
        statistic, p = 0.0, 1.0  # All tie: the correction for ties divides 0 by 0.
    else:
        # Friedman's test of the ranks makes contenders that diverged on a task a tie.
        test = stats.friedmanchisquare(*stats.rankdata(table, axis=1).T)
        statistic, p = float(test.statistic), float(test.pvalue)
    difference = critical_difference(k, tasks)
    return Friedman(tasks, statistic, p, difference, groups_within(contenders, ranks, difference))


@cache
def critical_difference(contenders: int, tasks: int, alpha: float = ALPHA) -> float:
    """Returns Nemenyi's critical difference, q √(k (k + 1) / 6N), with q of the studentised range
    over √2."""
    q = stats.studentized_range.ppf(1 - alpha, contenders, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(contenders * (contenders + 1) / (6 * tasks)))


def groups_within(
    contenders: Sequence[str], ranks: ArrayLike, distance: float
) -> tuple[tuple[str, ...], ...]:
    """Returns the largest sets of two or more neighbours in rank that lie within `distance`."""
    values = np.asarray(ranks, dtype=float)
    order = np.argsort(values, kind="stable")
    groups, reached = [], 0
    for start, value in enumerate(values[order]):
        end = int((values[order] - value <= distance).sum())
        if end > max(start + 1, reached):
            groups.append(tuple(contenders[place] for place in order[start:end]))
            reached = end
    return tuple(groups)
