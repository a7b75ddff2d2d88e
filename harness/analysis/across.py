"""Contenders over several tasks: one mean, one order, one probability, each with its doubt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.analysis.paired import common, superiority
from harness.analysis.summary import Interval, interquartile_mean, percentile
from harness.analysis.tournament import Tournament
from harness.core.errors import InputError

RESAMPLES = 2000
SHARED_SCALE = ("accuracy", "top5", "precision", "recall", "f1", "roc_auc", "r2")
"""Measures whose values mean the same on every task; others only rank."""
ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Standing:
    """A contender over the tasks that all contenders finished. rank: its average place, 1 the
    best. iqm: None where the measure has no scale that tasks share, or too much diverged."""

    contender: str
    rank: float
    iqm: float | None
    interval: Interval


@dataclass(frozen=True, slots=True)
class Friedman:
    """Whether the contenders differ at all (Friedman, 1937), and how far two average ranks must
    lie apart to differ (Nemenyi's critical difference at .05; Demšar, 2006).

    groups: contenders, best first, that do not differ by more than that; only sets that no larger
    one holds.
    """

    tasks: int
    statistic: float
    p: float
    critical_difference: float
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Improvement:
    """`first` against `second` over tasks. won: tasks of the higher mean. better: the probability
    of improvement, the mean over tasks. interval: with seeds, and of several tasks also tasks,
    drawn anew. tasks: those with two seeds or more in common. seeds: the fewest in common on any
    task."""

    first: str
    second: str
    tasks: int
    won: int
    seeds: int
    better: float
    interval: Interval


def standings(
    games: Tournament, tasks: Sequence[str], generator: np.random.Generator
) -> tuple[Standing, ...]:
    """Contenders by average rank over `tasks`, on all of which each has an entry."""
    ranks = average_ranks(score_matrix(games, tasks))
    shared = games.metric.rpartition("/")[2] in SHARED_SCALE
    made = []
    for contender, rank in zip(games.contenders, ranks, strict=True):
        strata = [_all(games, task, contender) for task in tasks]
        iqm, interval = stratified_iqm(strata, generator) if shared else (None, _NONE)
        signed = None if iqm is None else games.sign * iqm
        made.append(Standing(contender, float(rank), signed, interval))
    return tuple(sorted(made, key=lambda standing: standing.rank))


def score_matrix(games: Tournament, tasks: Sequence[str]) -> NDArray[np.float64]:
    """Mean scores [task, contender], higher is better; −inf where half of the seeds diverged."""
    return np.array(
        [[_centre(_all(games, task, name)) for name in games.contenders] for task in tasks]
    ).reshape(len(tasks), len(games.contenders))


def average_ranks(scores: ArrayLike) -> NDArray[np.float64]:
    """Average place of each contender, 1 the best, ties shared. scores [task, contender]."""
    table = np.asarray(scores, dtype=float)
    if table.ndim != 2 or np.isnan(table).any():
        raise InputError("scores must be a whole table [task, contender]: one is missing")
    return np.asarray(stats.rankdata(-np.round(table, 12), axis=1).mean(axis=0))


def stratified_iqm(
    strata: Sequence[NDArray[np.float64]], generator: np.random.Generator
) -> tuple[float | None, Interval]:
    """The interquartile mean of all values of all tasks, and its interval where seeds are drawn
    anew within each task (Agarwal et al., 2021). None where it is not finite."""
    pooled = np.concatenate(strata)
    value = interquartile_mean(pooled) if pooled.size else -np.inf
    if not np.isfinite(value):
        return None, _NONE
    drawn = [
        values[generator.integers(values.size, size=(RESAMPLES, values.size))] for values in strata
    ]
    with np.errstate(invalid="ignore"):
        samples = stats.trim_mean(np.concatenate(drawn, axis=1), 0.25, axis=1)
    return value, percentile(samples)


def friedman(games: Tournament, tasks: Sequence[str]) -> Friedman | None:
    """None below three contenders or two tasks, where the test is not defined."""
    return friedman_of(score_matrix(games, tasks), games.contenders)


def friedman_of(scores: ArrayLike, contenders: Sequence[str]) -> Friedman | None:
    """scores [task, contender], higher is better."""
    table = np.round(np.asarray(scores, dtype=float), 12)
    tasks, k = table.shape
    if tasks < 2 or k < 3:
        return None
    ranks = average_ranks(table)
    if (table == table[:, :1]).all():
        statistic, p = 0.0, 1.0  # All tie: the correction for ties divides 0 by 0.
    else:
        # Of ranks, so that what diverged on several contenders is a tie.
        found = stats.friedmanchisquare(*stats.rankdata(table, axis=1).T)
        statistic, p = float(found.statistic), float(found.pvalue)
    distance = critical_difference(k, tasks)
    return Friedman(tasks, statistic, p, distance, groups_within(contenders, ranks, distance))


@cache
def critical_difference(contenders: int, tasks: int, alpha: float = ALPHA) -> float:
    """Nemenyi's: q √(k (k + 1) / 6N), q of the studentised range over √2."""
    q = stats.studentized_range.ppf(1 - alpha, contenders, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(contenders * (contenders + 1) / (6 * tasks)))


def groups_within(
    contenders: Sequence[str], ranks: ArrayLike, distance: float
) -> tuple[tuple[str, ...], ...]:
    """Largest runs of neighbours in rank, of two or more, whose ends lie within `distance`."""
    places = np.asarray(ranks, dtype=float)
    order = np.argsort(places, kind="stable")
    runs: list[tuple[int, int]] = []
    for start, end in combinations(range(len(order)), 2):
        if places[order[end]] - places[order[start]] <= distance:
            runs.append((start, end))
    largest = [
        (start, end)
        for start, end in runs
        if not any(a <= start and end <= b and (a, b) != (start, end) for a, b in runs)
    ]
    return tuple(tuple(contenders[order[i]] for i in range(a, b + 1)) for a, b in largest)


def improvement(
    games: Tournament,
    tasks: Sequence[str],
    first: str,
    second: str,
    generator: np.random.Generator,
) -> Improvement | None:
    """None where on no task both have two seeds in common. Seeds are drawn in pairs."""
    strata, fewest = [], []
    for task in tasks:
        pair = common(games, task, first, second)
        fewest.append(pair[0].size)
        if fewest[-1] > 1:
            strata.append(pair)
    if not strata:
        return None
    better = float(np.mean([superiority(a, b) for a, b in strata]))
    samples = _over_tasks([_resampled(a, b, generator) for a, b in strata], generator)
    won = sum(_centre(a) > _centre(b) for a, b in strata)
    return Improvement(first, second, len(strata), won, min(fewest), better, percentile(samples))


def _over_tasks(
    samples: Sequence[NDArray[np.float64]], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Means over tasks [R] of each task's samples [R], with tasks too drawn anew: the tasks at hand
    are a sample of those that one would like to know of."""
    tasks = len(samples)
    which = generator.integers(tasks, size=(RESAMPLES, tasks))
    sample = generator.integers(RESAMPLES, size=(RESAMPLES, tasks))
    return np.asarray(np.array(samples)[which, sample].mean(axis=1))


def _resampled(
    a: NDArray[np.float64], b: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Probabilities of improvement [RESAMPLES] of a over b, both [n]."""
    wins = (a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])
    drawn = generator.multinomial(a.size, np.full(a.size, 1 / a.size), size=RESAMPLES)
    return np.asarray(np.einsum("ri,ij,rj->r", drawn, wins, drawn) / a.size**2)


def _all(games: Tournament, task: str, contender: str) -> NDArray[np.float64]:
    values = games.entries[task, contender].values
    return np.array([values[seed] for seed in sorted(values)], dtype=float)


def _centre(values: NDArray[np.float64]) -> float:
    """The mean over seeds that are done; −inf where half or more diverged."""
    done = values[np.isfinite(values)]
    return float(done.mean()) if 2 * done.size > values.size else float(-np.inf)


_NONE = Interval(None, None, "insufficient data")
