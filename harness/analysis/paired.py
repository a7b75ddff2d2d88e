"""Two contenders on the seeds that both have: differences, Wilcoxon's test, Holm's adjustment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from harness.analysis.summary import Interval, bootstrap
from harness.analysis.tournament import Tournament

EXACT_BELOW = 200
"""Most pairs for which the null distribution is enumerated; for more it is close to normal."""


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


def compare_pairs(
    tournament: Tournament, generator: np.random.Generator, baseline: str | None = None
) -> tuple[Pair, ...]:
    """Compares every two contenders of each task, or each contender with `baseline`, with Holm's
    adjustment within the task."""
    pairs: list[Pair] = []
    for task in tournament.tasks:
        present = [name for name in tournament.contenders if (task, name) in tournament.entries]
        of_task = [
            _compare_pair(tournament, task, first, second, generator)
            for place, first in enumerate(present)
            for second in present[place + 1 :]
            if baseline is None or baseline in (first, second)
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
    finite = np.isfinite(a) & np.isfinite(b)
    differences = (a - b)[finite]
    p, floor = signed_rank([ordered_differences(a, b)]) if a.size > 1 else (None, None)
    interval = bootstrap(differences, generator)
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
        difference=float(tournament.sign * differences.mean()) if differences.size else None,
        interval=interval,
        better=probability_of_improvement(a, b) if a.size > 1 else None,
        p=p,
        holm=None,
        floor=floor,
    )


def probability_of_improvement(a: ArrayLike, b: ArrayLike) -> float:
    """Returns P(a > b) + P(a = b) / 2 over all combinations of a [n] and b [m].

    This is the probability of improvement of Agarwal et al. (2021), Mann–Whitney's U / (n m). −inf
    is worse than any value.
    """
    first, second = np.asarray(a, dtype=float)[:, None], np.asarray(b, dtype=float)[None, :]
    return float(np.mean((first > second) + 0.5 * (first == second)))


def ordered_differences(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns a − b for tests that read signs and ranks alone.

    A trial that diverged differs from any value by infinity, and two of them do not differ.
    """
    with np.errstate(invalid="ignore"):
        differences = a - b
    return np.where(a == b, 0.0, differences)


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
    adjusted = np.empty(len(p))
    highest = 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return [float(value) for value in adjusted]
