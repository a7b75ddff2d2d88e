"""The test that decides between two contenders: by seeds where one is ahead on every task, else by
tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from harness.analysis.across import (
    ALPHA,
    Improvement,
    average_ranks,
    critical_difference,
    friedman,
    score_matrix,
)
from harness.analysis.paired import common, holm, ordered_differences, signed_rank, superiority
from harness.analysis.tournament import Tournament

Test = Literal["Wilcoxon over seeds", "Wilcoxon over tasks", "Nemenyi"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What tests say of two contenders.

    friedman: p of the test whether any of three or more contenders differ over two or more tasks.
    p: of Wilcoxon's test, two-sided; over seeds after Holm's adjustment. None where all values tie,
    and for Nemenyi's. floor: the lowest p that so many blocks that differ allow, unadjusted.
    blocks: tasks, or pairs of seeds of all tasks. compared: contenders for Nemenyi's test, else the
    pairs of contenders that are adjusted for.
    apart, needed: average ranks between the two, and Nemenyi's critical difference.
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
        """Whether Friedman's test, where it is defined, finds any difference."""
        return self.friedman is None or self.friedman < ALPHA

    @property
    def separates(self) -> bool:
        """Whether the two differ at .05, all comparisons allowed for."""
        if self.apart is not None and self.needed is not None:
            return self.differ and self.apart > self.needed
        return self.differ and self.p is not None and self.p < ALPHA


def evidence(
    games: Tournament, tasks: Sequence[str], found: Improvement, baseline: str | None = None
) -> Evidence:
    """Of the two that `found` speaks of. tasks: those that all contenders finished.

    Who is ahead on every task needs to be so surely on these tasks, and their seeds tell. Who is
    ahead on some claims something of tasks in general, and each task is but one block (Demšar,
    2006): Nemenyi's test, or Wilcoxon's where only two compete.
    """
    different = friedman(games, tasks)
    p = different.p if different else None
    if found.won == found.tasks or len(tasks) == 1:
        return _over_seeds(games, tasks, found, p, baseline)
    if len(games.contenders) == 2:
        return _over_tasks(games, tasks, found)
    ranks = dict(zip(games.contenders, average_ranks(score_matrix(games, tasks)), strict=True))
    return Evidence(
        friedman=p,
        test="Nemenyi",
        blocks=len(tasks),
        compared=len(ranks),
        apart=float(abs(ranks[found.first] - ranks[found.second])),
        needed=critical_difference(len(ranks), len(tasks)),
    )


def _over_seeds(
    games: Tournament,
    tasks: Sequence[str],
    found: Improvement,
    friedman_p: float | None,
    baseline: str | None,
) -> Evidence:
    """Differences are ranked within each task, which has its own scale."""
    tested: dict[frozenset[str], tuple[float, float]] = {}
    for one, two in combinations(games.contenders, 2):
        if baseline is None or baseline in (one, two):
            p, floor = signed_rank([_differences(games, task, one, two) for task in tasks])
            if p is not None and floor is not None:
                tested[frozenset((one, two))] = p, floor
    adjusted = dict(zip(tested, holm([p for p, _ in tested.values()]), strict=True))
    two_of_it = frozenset((found.first, found.second))
    seeds = (len(_differences(games, task, found.first, found.second)) for task in tasks)
    return Evidence(
        friedman=friedman_p,
        test="Wilcoxon over seeds",
        blocks=sum(seeds),
        compared=len(tested),
        p=adjusted.get(two_of_it),
        floor=tested[two_of_it][1] if two_of_it in tested else None,
    )


def _differences(games: Tournament, task: str, first: str, second: str) -> np.ndarray:
    return ordered_differences(*common(games, task, first, second))


def _over_tasks(games: Tournament, tasks: Sequence[str], found: Improvement) -> Evidence:
    """Of each task's probability of improvement, which has one scale whatever is measured."""
    ahead = [superiority(*common(games, task, found.first, found.second)) for task in tasks]
    p, floor = signed_rank([np.round(np.array(ahead) - 0.5, 12)])
    return Evidence(
        friedman=None, test="Wilcoxon over tasks", blocks=len(tasks), compared=1, p=p, floor=floor
    )
