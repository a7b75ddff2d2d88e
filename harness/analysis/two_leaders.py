"""Why the leader of a data set is not the contender that is ahead over all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.analysis.comparison import Comparison
from harness.analysis.configs import name_of
from harness.analysis.ranking import ConfigGroup, Score
from harness.analysis.resolution import exceeds
from harness.analysis.tournament import Tournament

Reason = Literal["absent", "split", "divergence", "tasks", "seeds"]


@dataclass(frozen=True, slots=True)
class TwoLeaders:
    """`leader` leads on a data set, though `ahead` is ahead over all tasks.

    task: the data set, as in `Config.task`.
    reason: "absent": `ahead` has no score there. "divergence": fewer trials of the leader diverged.
        "split": they lead on the validation and on the test split. "tasks": the leader has the best
        config there, and `ahead` is better over several tasks. "seeds": `ahead` is better on the
        seeds that both have.
    """

    task: str
    leader: str
    ahead: str
    reason: Reason


def two_leaders(
    comparison: Comparison, tournament: Tournament, ahead: str
) -> tuple[TwoLeaders, ...]:
    """Returns the data sets on which others lead than the contender that is ahead."""
    found = []
    for task in comparison.tasks:
        of_task = [group for group in comparison.contenders if group.best.task == task]
        names = [name_of(group.best.labels, tournament.contend_by) for group in of_task]
        leaders = [n for n, g in zip(names, of_task, strict=True) if g.best.rank == 1]
        if leaders and ahead not in leaders:
            other = of_task[names.index(ahead)] if ahead in names else None
            reason = _reason(of_task[0], other, comparison.score, tournament.complete_tasks())
            found.append(TwoLeaders(task, leaders[0], ahead, reason))
    return tuple(found)


def _reason(
    first: ConfigGroup, other: ConfigGroup | None, score: Score, tasks: Sequence[str]
) -> Reason:
    leader = first.best
    if leader.mean is None or other is None or other.best.mean is None:
        return "absent"
    if not exceeds(score.sign * leader.mean, score.sign * other.best.mean):
        return "divergence"
    mine, theirs = leader.test_mean, other.best.test_mean
    if mine is not None and theirs is not None and exceeds(score.sign * theirs, score.sign * mine):
        return "split"
    return "tasks" if len(tasks) > 1 else "seeds"
