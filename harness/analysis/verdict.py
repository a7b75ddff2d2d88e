"""Who leads, and how little that says with few seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.tuned import Tuned


@dataclass(frozen=True, slots=True)
class Verdict:
    """The standing within one task.

    leaders: the best group, and those that tie with it; empty where nothing has a value.
    runner_up: the best group behind them. seeds: the fewest that one of those named has.
    spread: whether any of them has a standard deviation above 0.
    """

    task: str
    leaders: tuple[Tuned, ...]
    runner_up: Tuned | None
    seeds: int
    spread: bool


def judge(task: str, groups: Sequence[Tuned]) -> Verdict:
    """groups: of `tuned.best_of_each` for one task, in order of rank."""
    with_value = [group for group in groups if group.best.mean is not None]
    if not with_value:
        return Verdict(task, (), None, 0, False)
    first = with_value[0].best.rank
    leaders = tuple(group for group in with_value if group.best.rank == first)
    behind = with_value[len(leaders) :]
    runner_up = behind[0] if behind else None
    named = [group.best for group in (*leaders, *behind[:1])]
    return Verdict(
        task,
        leaders,
        runner_up,
        seeds=min(config.n for config in named),
        spread=any(config.sd for config in named),
    )
