"""The claim over all tasks: which contender beats which, how surely, or why the data do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from typing import Literal

import numpy as np

from harness.analysis.contenders import Improvement, improvement
from harness.analysis.resolution import exceeds
from harness.analysis.statistics import (
    ALPHA,
    average_ranks,
    critical_difference,
    friedman_test,
    holm,
    ordered_differences,
    probability_of_improvement,
    signed_rank,
)
from harness.analysis.tournament import Tournament
from harness.core.errors import require_known

FEWEST_SEEDS = 5
"""Fewest seeds for a claim: fewer have too few distinct resamples for a bootstrap."""

Test = Literal["Wilcoxon over seeds", "Wilcoxon over tasks", "Nemenyi"]
Finding = Literal["beats", "insufficient data"]
Doubt = Literal["", "no task", "no seeds", "few seeds", "test", "interval"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """The test that decides between two contenders.

    friedman: p of the test whether any of three or more contenders differ over two or more tasks.
    p: of Wilcoxon's test, two-sided; over seeds, after Holm's adjustment. None if all values tie,
        and for Nemenyi's test.
    floor: the lowest p, unadjusted, that this number of differing blocks allows.
    blocks: tasks, or pairs of seeds of all tasks.
    compared: contenders for Nemenyi's test, else the pairs of contenders that are adjusted for.
    apart, needed: the distance of the average ranks, and Nemenyi's critical difference.
    """

    friedman: float | None
    test: Test
    blocks: int
    compared: int
    p: float | None = None
    floor: float | None = None
    apart: float | None = None
    needed: float | None = None

    @property
    def differ(self) -> bool:
        """Whether Friedman's test, if it is defined, finds any difference."""
        return self.friedman is None or self.friedman < ALPHA

    @property
    def separates(self) -> bool:
        """Whether the two differ at .05, adjusted for all comparisons."""
        if self.apart is not None and self.needed is not None:
            return self.differ and self.apart > self.needed
        return self.differ and self.p is not None and self.p < ALPHA


@dataclass(frozen=True, slots=True)
class Headline:
    """The claim about two contenders.

    They are the contender of the best average rank and the next one that it beats, or the next one
    if it beats none; with a baseline, the baseline and the best of the others.

    A beats B if all of this holds: they have `FEWEST_SEEDS` in common on every task; the test of
    `evidence` separates them; and the interval of the probability of improvement lies above one
    half, or all resamples agree that A always wins.

    doubt: the part that does not hold. "no task" means that every contender finished on no task,
        "no seeds" that the two have fewer than two seeds in common.
    undecided: contenders of a rank between the two, which the first is not shown to beat.
    tasks: how many tasks all contenders finished. left_out: how many other tasks there are.
    """

    finding: Finding
    doubt: Doubt
    improvement: Improvement | None
    evidence: Evidence | None
    undecided: tuple[str, ...]
    tasks: int
    left_out: int


def headline(
    tournament: Tournament, generator: np.random.Generator, baseline: str | None = None
) -> Headline:
    """Judges the best contender. Raises InputError if the baseline does not compete."""
    if baseline is not None:
        require_known([baseline], tournament.contenders, "--baseline: no contender is called")
    tasks = tournament.complete_tasks()
    left_out = len(tournament.tasks) - len(tasks)
    if not tasks:
        return Headline("insufficient data", "no task", None, None, (), 0, left_out)
    first, others = _opponents(tournament, tasks, baseline)
    judged = []
    for place, other in enumerate(others):
        doubt, measured, test = _judge(tournament, tasks, first, other, generator, baseline)
        if not doubt:
            undecided = tuple(others[:place])
            return Headline("beats", "", measured, test, undecided, len(tasks), left_out)
        judged.append((doubt, measured, test))
    doubt, measured, test = judged[0]
    return Headline("insufficient data", doubt, measured, test, (), len(tasks), left_out)


def _opponents(
    tournament: Tournament, tasks: Sequence[str], baseline: str | None
) -> tuple[str, list[str]]:
    """Returns the contender that a claim is made for, and those that it may beat, best first."""
    ranks = average_ranks(tournament.mean_scores(tasks), tournament.resolution)
    order = [tournament.contenders[place] for place in np.argsort(ranks, kind="stable")]
    if baseline is None:
        return order[0], order[1:]
    best = next(name for name in order if name != baseline)
    first, second = sorted((baseline, best), key=order.index)
    return first, [second]


def _judge(
    tournament: Tournament,
    tasks: Sequence[str],
    first: str,
    second: str,
    generator: np.random.Generator,
    baseline: str | None,
) -> tuple[Doubt, Improvement | None, Evidence | None]:
    """Returns which part of the rule does not hold, empty if `first` beats `second`."""
    measured = improvement(tournament, tasks, first, second, generator)
    if measured is None:
        return "no seeds", None, None
    if measured.seeds < FEWEST_SEEDS:
        return "few seeds", measured, None
    test = decide(tournament, tasks, measured, baseline)
    if not test.separates:
        return "test", measured, test
    low = measured.interval.low
    above_half = exceeds(low, 0.5) if low is not None else measured.better == 1
    above_half = above_half and measured.better > 0.5
    return "" if above_half else "interval", measured, test


def decide(
    tournament: Tournament,
    tasks: Sequence[str],
    measured: Improvement,
    baseline: str | None = None,
) -> Evidence:
    """Runs the test that decides between two contenders.

    A contender that is ahead on every task makes a claim about these tasks, which their seeds
    decide. A contender that is ahead on some tasks makes a claim about tasks in general, where each
    task is one block (Demšar, 2006): Nemenyi's test decides, or Wilcoxon's if only two compete.

    tasks: those that all contenders finished.
    """
    scores = tournament.mean_scores(tasks)
    friedman = friedman_test(scores, tournament.contenders, tournament.resolution)
    p = friedman.p if friedman else None
    if measured.won == measured.tasks or len(tasks) == 1:
        return _decide_by_seeds(tournament, tasks, measured, p, baseline)
    if len(tournament.contenders) == 2:
        return _decide_by_tasks(tournament, tasks, measured)
    average = average_ranks(scores, tournament.resolution)
    ranks = dict(zip(tournament.contenders, average, strict=True))
    return Evidence(
        friedman=p,
        test="Nemenyi",
        blocks=len(tasks),
        compared=len(ranks),
        apart=float(abs(ranks[measured.first] - ranks[measured.second])),
        needed=critical_difference(len(ranks), len(tasks)),
    )


def _decide_by_seeds(
    tournament: Tournament,
    tasks: Sequence[str],
    measured: Improvement,
    friedman: float | None,
    baseline: str | None,
) -> Evidence:
    """Ranks differences within each task, since each task has its own scale."""

    def differences(first: str, second: str) -> list[np.ndarray]:
        pairs = (tournament.paired_scores(task, first, second) for task in tasks)
        return [ordered_differences(a, b, tournament.resolution) for a, b in pairs]

    tested: dict[frozenset[str], tuple[float, float]] = {}
    for first, second in combinations(tournament.contenders, 2):
        if baseline is None or baseline in (first, second):
            p, floor = signed_rank(differences(first, second))
            if p is not None and floor is not None:
                tested[frozenset((first, second))] = p, floor
    adjusted = dict(zip(tested, holm([p for p, _ in tested.values()]), strict=True))
    pair = frozenset((measured.first, measured.second))
    return Evidence(
        friedman=friedman,
        test="Wilcoxon over seeds",
        blocks=sum(map(len, differences(measured.first, measured.second))),
        compared=len(tested),
        p=adjusted.get(pair),
        floor=tested[pair][1] if pair in tested else None,
    )


def _decide_by_tasks(
    tournament: Tournament, tasks: Sequence[str], measured: Improvement
) -> Evidence:
    """Tests each task's probability of improvement, which has the same scale for every metric."""
    pairs = (tournament.paired_scores(task, measured.first, measured.second) for task in tasks)
    half = Fraction(1, 2)
    p, floor = signed_rank([[float(probability_of_improvement(*pair) - half) for pair in pairs]])
    return Evidence(
        friedman=None, test="Wilcoxon over tasks", blocks=len(tasks), compared=1, p=p, floor=floor
    )
