"""One claim over all tasks: who beats whom, how surely, or why nobody can say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.analysis.across import Improvement, average_ranks, improvement, score_matrix
from harness.analysis.tournament import Tournament
from harness.errors import InputError, Problem, did_you_mean

FEWEST_SEEDS = 5
"""Below, a bootstrap over seeds has too few distinct resamples to say anything."""

Finding = Literal["beats", "no clear winner", "insufficient data"]


@dataclass(frozen=True, slots=True)
class Headline:
    """improvement: of the contender of the best average rank over the next, or over the baseline;
    None where they have no two seeds in common. reason: why the data are insufficient.

    It beats where the interval of the probability of improvement lies above one half, or every
    resample agrees that it always wins. tasks: those that all contenders finished.
    """

    finding: Finding
    improvement: Improvement | None
    tasks: int
    left_out: int
    reason: str = ""


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
        return Headline(
            "insufficient data", None, 0, left_out, "no task was finished by every contender"
        )
    first, second = _two(games, tasks, baseline)
    found = improvement(games, tasks, first, second, generator)
    if found is None:
        reason = f"{first} and {second} have no two seeds in common on any task"
        return Headline("insufficient data", None, len(tasks), left_out, reason)
    if found.seeds < FEWEST_SEEDS:
        reason = f"{found.seeds} seeds in common, and {FEWEST_SEEDS} are the fewest for a claim"
        return Headline("insufficient data", found, len(tasks), left_out, reason)
    low = found.interval.low
    surely = low > 0.5 if low is not None else found.better == 1
    return Headline("beats" if surely else "no clear winner", found, len(tasks), left_out)


def _two(games: Tournament, tasks: tuple[str, ...], baseline: str | None) -> tuple[str, str]:
    """The two that the headline speaks of, the better one first."""
    ranks = average_ranks(score_matrix(games, tasks))
    order = [games.contenders[place] for place in np.argsort(ranks, kind="stable")]
    if baseline is None:
        return order[0], order[1]
    other = next(name for name in order if name != baseline)
    pair = sorted((baseline, other), key=order.index)
    return pair[0], pair[1]
