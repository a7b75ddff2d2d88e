"""Contenders over several tasks: average ranks, Friedman's test, Nemenyi's critical difference,
interquartile means, and the probability of improvement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.analysis.paired import probability_of_improvement
from harness.analysis.summary import Interval, interquartile_mean, percentile
from harness.analysis.tournament import Tournament, mean_score
from harness.core.errors import InputError

RESAMPLES = 2000
SHARED_SCALE = ("accuracy", "top5", "precision", "recall", "f1", "roc_auc", "r2")
"""Measures whose values have the same meaning on every task; of others only the order counts."""
ALPHA = 0.05
_NO_INTERVAL = Interval(None, None, "insufficient data")


@dataclass(frozen=True, slots=True)
class AverageRank:
    """A contender over the tasks that all contenders finished.

    rank: its average rank, 1 the best. iqm: the interquartile mean; None if the tasks have no
    common scale or too many trials diverged.
    """

    contender: str
    rank: float
    iqm: float | None
    interval: Interval


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


@dataclass(frozen=True, slots=True)
class Improvement:
    """`first` against `second` over the tasks on which they have two seeds or more in common.

    won: tasks on which `first` has the higher mean. seeds: the fewest in common on any task.
    better: the probability of improvement, the mean over tasks.
    interval: resamples the seeds and, of several tasks, the tasks too.
    """

    first: str
    second: str
    tasks: int
    won: int
    seeds: int
    better: float
    interval: Interval


def rank_contenders(
    tournament: Tournament, tasks: Sequence[str], generator: np.random.Generator
) -> tuple[AverageRank, ...]:
    """Returns the contenders by average rank over tasks on which each has an entry."""
    ranks = average_ranks(tournament.mean_scores(tasks))
    ranked = []
    for contender, rank in zip(tournament.contenders, ranks, strict=True):
        iqm, interval = None, _NO_INTERVAL
        if tournament.metric.rpartition("/")[2] in SHARED_SCALE:
            strata = [tournament.entries[task, contender].scores for task in tasks]
            iqm, interval = stratified_iqm(strata, generator)
        signed = None if iqm is None else tournament.sign * iqm
        ranked.append(AverageRank(contender, float(rank), signed, interval))
    return tuple(sorted(ranked, key=lambda contender: contender.rank))


def average_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Returns the average rank of each contender, 1 the best; ties share a rank.

    scores: [task, contender], higher is better. Raises InputError if one is missing.
    """
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or np.isnan(table).any():
        raise InputError("scores must be a whole table [task, contender]: one is missing")
    return np.asarray(stats.rankdata(-np.round(table, 12), axis=1).mean(axis=0))


def stratified_iqm(
    strata: Sequence[NDArray[np.float64]], generator: np.random.Generator
) -> tuple[float | None, Interval]:
    """Returns the interquartile mean over all tasks, and its interval where seeds are resampled
    within each task (Agarwal et al., 2021). None if the mean is not finite."""
    pooled = np.concatenate(strata)
    value = interquartile_mean(pooled) if pooled.size else -np.inf
    if not np.isfinite(value):
        return None, _NO_INTERVAL
    resampled = [
        values[generator.integers(values.size, size=(RESAMPLES, values.size))] for values in strata
    ]
    with np.errstate(invalid="ignore"):
        means = stats.trim_mean(np.concatenate(resampled, axis=1), 0.25, axis=1)
    return value, percentile(means)


def friedman_test(scores: ArrayLike, contenders: Sequence[str]) -> Friedman | None:
    """Returns None for fewer than three contenders or two tasks: the test is then not defined.

    scores: [task, contender], higher is better.
    """
    table = np.round(np.asarray(scores, dtype=float), 12)
    tasks, k = table.shape
    if tasks < 2 or k < 3:
        return None
    ranks = average_ranks(table)
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
    spans = [
        (start, end)
        for start, end in combinations(range(len(order)), 2)
        if values[order[end]] - values[order[start]] <= distance
    ]
    largest = [
        (start, end)
        for start, end in spans
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in spans)
    ]
    return tuple(tuple(contenders[order[i]] for i in range(a, b + 1)) for a, b in largest)


def improvement(
    tournament: Tournament,
    tasks: Sequence[str],
    first: str,
    second: str,
    generator: np.random.Generator,
) -> Improvement | None:
    """Returns None if the two have two seeds in common on no task. Seeds are resampled in pairs."""
    pairs = [tournament.paired_scores(task, first, second) for task in tasks]
    fewest = min((a.size for a, _ in pairs), default=0)
    pairs = [(a, b) for a, b in pairs if a.size > 1]
    if not pairs:
        return None
    better = float(np.mean([probability_of_improvement(a, b) for a, b in pairs]))
    of_tasks = np.array([_resampled_improvement(a, b, generator) for a, b in pairs])
    # The tasks are a sample of those that one would like to know about.
    which = generator.integers(len(pairs), size=(RESAMPLES, len(pairs)))
    sample = generator.integers(RESAMPLES, size=(RESAMPLES, len(pairs)))
    interval = percentile(np.asarray(of_tasks[which, sample].mean(axis=1)))
    won = sum(mean_score(a) > mean_score(b) for a, b in pairs)
    return Improvement(first, second, len(pairs), won, fewest, better, interval)


def _resampled_improvement(
    a: NDArray[np.float64], b: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Returns probabilities of improvement [RESAMPLES] of a [n] over b [n]."""
    wins = (a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])
    counts = generator.multinomial(a.size, np.full(a.size, 1 / a.size), size=RESAMPLES)
    return np.asarray(np.einsum("ri,ij,rj->r", counts, wins, counts) / a.size**2)
