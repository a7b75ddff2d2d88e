"""One claim over all tasks: who beats whom, how surely, or why nobody can say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.across import Improvement, average_ranks, improvement, score_matrix
from harness.analysis.deciding_test import Evidence, evidence
from harness.analysis.tournament import Tournament
from harness.core.errors import InputError, Problem, did_you_mean

FEWEST_SEEDS = 5
"""Below, a bootstrap over seeds has too few distinct resamples to say anything."""

Finding = Literal["beats", "insufficient data"]
Doubt = Literal["", "no task", "no seeds", "few seeds", "test", "interval"]


@dataclass(frozen=True, slots=True)
class Headline:
    """Of the contender of the best average rank over the next one that it beats, or where there is
    none over the next; or of the baseline and the best of the others.

    A beats B where all of this holds: `FEWEST_SEEDS` in common on every task; the test of
    `evidence` separates them; the interval of the probability of improvement lies above one half,
    or every resample agrees that A always wins.

    doubt: which of it does not; "no task": none was finished by every contender; "no seeds": no
    two in common. tasks: those that all contenders finished; left_out: the others.
    undecided: contenders of a rank between the two, which the first is not shown to beat.
    """

    finding: Finding
    doubt: Doubt
    improvement: Improvement | None
    evidence: Evidence | None
    undecided: tuple[str, ...]
    tasks: int
    left_out: int


def headline(
    games: Tournament, generator: np.random.Generator, baseline: str | None = None
) -> Headline:
    """Raises InputError for a baseline that does not compete."""
    if baseline is not None and baseline not in games.contenders:
        raise InputError(
            Problem(
                f"--baseline: no contender is called {baseline!r}",
                hint=did_you_mean(baseline, games.contenders),
            )
        )
    tasks = games.complete()
    left_out = len(games.tasks) - len(tasks)
    if not tasks:
        return Headline("insufficient data", "no task", None, None, (), 0, left_out)
    first, others = _order(games, tasks, baseline)
    judged: list[tuple[Doubt, Improvement | None, Evidence | None]] = []
    for other in others:
        doubt, found, shown = _judge(games, tasks, (first, other), generator, baseline)
        if not doubt:
            before = tuple(others[: len(judged)])
            return Headline("beats", "", found, shown, before, len(tasks), left_out)
        judged.append((doubt, found, shown))
    doubt, found, shown = judged[0]
    return Headline("insufficient data", doubt, found, shown, (), len(tasks), left_out)


def _judge(
    games: Tournament,
    tasks: Sequence[str],
    two: tuple[str, str],
    generator: np.random.Generator,
    baseline: str | None,
) -> tuple[Doubt, Improvement | None, Evidence | None]:
    found = improvement(games, tasks, *two, generator)
    if found is None:
        return "no seeds", None, None
    if found.seeds < FEWEST_SEEDS:
        return "few seeds", found, None
    shown = evidence(games, tasks, found, baseline)
    if not shown.separates:
        return "test", found, shown
    low = found.interval.low
    surely = low > 0.5 if low is not None else found.better == 1
    return "" if surely else "interval", found, shown


def _order(games: Tournament, tasks: Sequence[str], baseline: str | None) -> tuple[str, list[str]]:
    """Whose claim it is, and those that it may beat, the best first."""
    ranks = average_ranks(score_matrix(games, tasks))
    order = [games.contenders[place] for place in np.argsort(ranks, kind="stable")]
    if baseline is None:
        return order[0], order[1:]
    best = next(name for name in order if name != baseline)
    first, second = sorted((baseline, best), key=order.index)
    return first, [second]
