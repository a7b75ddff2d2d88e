"""Contenders against each other: every two on one task, and all of them over several tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from harness.analysis.resolution import exceeds, mean_difference, noise_of
from harness.analysis.statistics import (
    NO_INTERVAL,
    Interval,
    average_ranks,
    bootstrap,
    holm,
    interquartile_mean,
    ordered_differences,
    percentile,
    probability_of_improvement,
    signed_rank,
)
from harness.analysis.tournament import Tournament, mean_score

RESAMPLES = 2000
SHARED_SCALE = ("accuracy", "top5", "precision", "recall", "f1", "roc_auc", "r2")
"""Measures whose values have the same meaning on every task; of others only the order counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`first` against `second` on one task, paired by seed.

    n: seeds that both have.
    diverged: seeds on which at least one of the two diverged. They count in wins, losses, p and
        better as worse than any value, and have no difference.
    difference, interval: mean over the other seeds, in the metric's unit.
    better: the probability that a seed of `first` beats a seed of `second`, ties counted half
        (Mann–Whitney's U / n²).
    p: Wilcoxon's, two-sided and exact. holm: p adjusted for all pairs of the task.
    floor: the lowest p that this number of differing seeds allows.
    Values are None for insufficient data.
    """

    task: str
    first: str
    second: str
    n: int
    diverged: int
    wins: int
    ties: int
    losses: int
    difference: float | None
    interval: Interval
    better: float | None
    p: float | None
    holm: float | None
    floor: float | None


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


def compare_pairs(
    tournament: Tournament, generator: np.random.Generator, baseline: str | None = None
) -> tuple[Pair, ...]:
    """Compares every two contenders of each task, or each contender with `baseline`, with Holm's
    adjustment within the task."""
    pairs: list[Pair] = []
    for task in tournament.tasks:
        present = [name for name in tournament.contenders if (task, name) in tournament.entries]
        of_task = [
            _compare_pair(tournament, task, *names, generator)
            for names in combinations(present, 2)
            if baseline is None or baseline in names
        ]
        adjusted = iter(holm([pair.p for pair in of_task if pair.p is not None]))
        pairs += [
            pair if pair.p is None else replace(pair, holm=next(adjusted)) for pair in of_task
        ]
    return tuple(pairs)


def _compare_pair(
    tournament: Tournament, task: str, first: str, second: str, generator: np.random.Generator
) -> Pair:
    """Compares one pair on one task, without adjustment."""
    a, b = tournament.paired_scores(task, first, second)
    finite, resolution = np.isfinite(a) & np.isfinite(b), tournament.resolution
    ordered = ordered_differences(a, b, resolution)
    p, floor = signed_rank([ordered]) if a.size > 1 else (None, None)
    noise = noise_of(a, b, resolution=resolution)
    interval = bootstrap(ordered[finite], generator, noise)
    if tournament.sign < 0 and interval.low is not None and interval.high is not None:
        interval = Interval(-interval.high, -interval.low, interval.method)
    return Pair(
        task=task,
        first=first,
        second=second,
        n=a.size,
        diverged=int((~finite).sum()),
        wins=int((a > b).sum()),
        ties=int((a == b).sum()),
        losses=int((a < b).sum()),
        difference=mean_difference(tournament.sign * ordered[finite], noise),
        interval=interval,
        better=float(probability_of_improvement(a, b)) if a.size > 1 else None,
        p=p,
        holm=None,
        floor=floor,
    )


def rank_contenders(
    tournament: Tournament, tasks: Sequence[str], generator: np.random.Generator
) -> tuple[AverageRank, ...]:
    """Returns the contenders by average rank over tasks on which each has an entry."""
    ranks = average_ranks(tournament.mean_scores(tasks), tournament.resolution)
    ranked = []
    for contender, rank in zip(tournament.contenders, ranks, strict=True):
        iqm, interval = None, NO_INTERVAL
        if tournament.metric.rpartition("/")[2] in SHARED_SCALE:
            strata = [tournament.entries[task, contender].scores for task in tasks]
            iqm, interval = stratified_iqm(strata, generator)
        signed = None if iqm is None else tournament.sign * iqm
        ranked.append(AverageRank(contender, float(rank), signed, interval))
    return tuple(sorted(ranked, key=lambda contender: contender.rank))


def stratified_iqm(
    strata: Sequence[NDArray[np.float64]], generator: np.random.Generator
) -> tuple[float | None, Interval]:
    """Returns the interquartile mean over all tasks, and its interval where seeds are resampled
    within each task (Agarwal et al., 2021). None if the mean is not finite."""
    pooled = np.concatenate(strata)
    value = interquartile_mean(pooled) if pooled.size else -np.inf
    if not np.isfinite(value):
        return None, NO_INTERVAL
    resampled = [
        values[generator.integers(values.size, size=(RESAMPLES, values.size))] for values in strata
    ]
    with np.errstate(invalid="ignore"):
        means = stats.trim_mean(np.concatenate(resampled, axis=1), 0.25, axis=1)
    return value, percentile(means)


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
    better = float(sum(probability_of_improvement(a, b) for a, b in pairs) / len(pairs))
    of_tasks = np.array([_resampled_improvement(a, b, generator) for a, b in pairs])
    # The tasks are a sample of those that one would like to know about.
    which = generator.integers(len(pairs), size=(RESAMPLES, len(pairs)))
    sample = generator.integers(RESAMPLES, size=(RESAMPLES, len(pairs)))
    interval = percentile(np.asarray(of_tasks[which, sample].mean(axis=1)))
    won = sum(exceeds(mean_score(a), mean_score(b), tournament.resolution) for a, b in pairs)
    return Improvement(first, second, len(pairs), won, fewest, better, interval)


def _resampled_improvement(
    a: NDArray[np.float64], b: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.float64]:
    """Returns probabilities of improvement [RESAMPLES] of a [n] over b [n]."""
    wins = (a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])
    counts = generator.multinomial(a.size, np.full(a.size, 1 / a.size), size=RESAMPLES)
    return np.asarray(np.einsum("ri,ij,rj->r", counts, wins, counts) / a.size**2)
