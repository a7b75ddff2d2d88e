"""Two contenders on the seeds that both have: by how much, how often, and how sure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.analysis.summary import Interval, bootstrap
from harness.analysis.tournament import Tournament

EXACT_BELOW = 200
"""Pairs up to which the null distribution is enumerated; above, it is as good as normal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`first` against `second` on one task, by seed; a difference above 0 favours `first`.

    n: seeds that both have. diverged: of these, where one did; they count in wins, losses, p and
    better, as worse than any value, and have no difference.
    difference, interval: mean over the other seeds, in the metric's unit. better: the probability
    that a seed of `first` beats a seed of `second`, ties half (Mann–Whitney's U / n²).
    p: Wilcoxon's, two-sided and exact; holm: adjusted for all pairs of the task. floor: the lowest
    p that so many seeds that differ could give. None: insufficient data.
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


def pairs(
    games: Tournament, generator: np.random.Generator, baseline: str | None = None
) -> tuple[Pair, ...]:
    """Every two contenders of each task, or each against `baseline`, with Holm's correction within
    the task."""
    found: list[Pair] = []
    for task in games.tasks:
        there = [name for name in games.contenders if (task, name) in games.entries]
        of_task = [
            compare_pair(games, task, first, second, generator)
            for place, first in enumerate(there)
            for second in there[place + 1 :]
            if baseline is None or baseline in (first, second)
        ]
        tested = [pair for pair in of_task if pair.p is not None]
        adjusted = holm([pair.p for pair in tested if pair.p is not None])
        by_pair = {id(pair): value for pair, value in zip(tested, adjusted, strict=True)}
        found += [replace(pair, holm=by_pair.get(id(pair))) for pair in of_task]
    return tuple(found)


def compare_pair(
    games: Tournament, task: str, first: str, second: str, generator: np.random.Generator
) -> Pair:
    """One pair on one task, not yet corrected for the others."""
    a, b = common(games, task, first, second)
    whole = np.isfinite(a) & np.isfinite(b)
    differences = (a - b)[whole]
    p, floor = wilcoxon(ordered_differences(a, b)) if a.size > 1 else (None, None)
    return Pair(
        task=task,
        first=first,
        second=second,
        n=a.size,
        diverged=int((~whole).sum()),
        wins=int((a > b).sum()),
        ties=int((a == b).sum()),
        losses=int((a < b).sum()),
        difference=float(games.sign * differences.mean()) if differences.size else None,
        interval=_signed(bootstrap(differences, generator), games.sign),
        better=superiority(a, b) if a.size > 1 else None,
        p=p,
        holm=None,
        floor=floor,
    )


def common(
    games: Tournament, task: str, first: str, second: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of both, each [n], of the seeds that both have, in one order."""
    one, two = games.entries[task, first].values, games.entries[task, second].values
    seeds = sorted(one.keys() & two.keys())
    return (
        np.array([one[seed] for seed in seeds], dtype=float),
        np.array([two[seed] for seed in seeds], dtype=float),
    )


def superiority(a: ArrayLike, b: ArrayLike) -> float:
    """P(a > b) + P(a = b) / 2 over all combinations of a [n] and b [m]: the probability of
    improvement of Agarwal et al. (2021), Mann–Whitney's U / (n m). −inf is worse than any value."""
    first, second = np.asarray(a, dtype=float)[:, None], np.asarray(b, dtype=float)[None, :]
    return float(np.mean((first > second) + 0.5 * (first == second)))


def ordered_differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a − b, where a value that diverged makes the largest difference of all, and two no
    difference: enough for tests that read signs and ranks."""
    with np.errstate(invalid="ignore"):
        differences = a - b
    return np.where(a == b, 0.0, differences)


def wilcoxon(differences: ArrayLike) -> tuple[float | None, float | None]:
    """Wilcoxon's signed-rank test (1945) of differences [n]; see `signed_rank`."""
    return signed_rank([differences])


def signed_rank(strata: Sequence[ArrayLike]) -> tuple[float | None, float | None]:
    """Wilcoxon's signed-rank test, two-sided, of differences [n] ranked within each stratum: its p,
    and the lowest p that so many could give. Differences of 0 are left out, as Wilcoxon does;
    (None, None) where none is left.

    Exact with ties too, by enumeration of all signs, where scipy falls back on the normal
    distribution. Ranks of ties are averaged.
    """
    kept = [data[data != 0] for data in (np.asarray(one, dtype=float) for one in strata)]
    positive = np.concatenate([data > 0 for data in kept])
    # Average ranks are halves: doubled, they are whole, and their sums can be told apart.
    ranks = np.concatenate([np.rint(2 * stats.rankdata(np.abs(data))) for data in kept])
    if not ranks.size:
        return None, None
    floor = min(1.0, 2.0 ** (1 - ranks.size))
    total = float(ranks[positive].sum())
    if ranks.size > EXACT_BELOW:
        z = (total - ranks.sum() / 2) / np.sqrt((ranks**2).sum() / 4)
        return float(2 * stats.norm.sf(abs(z))), floor
    least = int(min(total, ranks.sum() - total))
    return min(1.0, 2 * float(_chances(ranks.astype(int))[: least + 1].sum())), floor


def _chances(ranks: NDArray[np.int_]) -> NDArray[np.float64]:
    """How likely each sum of ranks is, from 0 up, where each counts with probability one half."""
    chance = np.ones(1)
    for rank in ranks:
        longer = np.zeros(chance.size + rank)
        longer[: chance.size] += chance / 2
        longer[rank:] += chance / 2
        chance = longer
    return chance


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment (1979): of m values, the i-th smallest times m − i, and never
    below a smaller one's."""
    order = np.argsort(p, kind="stable")
    adjusted = np.empty(len(p))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]


def _signed(interval: Interval, sign: int) -> Interval:
    if sign > 0 or interval.low is None or interval.high is None:
        return interval
    return Interval(-interval.high, -interval.low, interval.method)
