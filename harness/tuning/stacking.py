"""How many points are asked for at once, and which of them train as one stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.core.errors import InputError, Problem
from harness.core.paths import data_root
from harness.core.text import plural
from harness.execution.stacking import AUTO_STACK_SIZE, plan_stacks
from harness.experiment.experiment import TRAIN_SECONDS, Search
from harness.tuning.samplers import points_per_round
from harness.tuning.study import SearchPoint, TuningStudy
from harness.tuning.study_plan import StudyPlan

TIMED_POINTS = 10
"""How many points of a study `--fuse auto` asks for at once where only time limits the study."""


@dataclass(frozen=True, slots=True)
class StackLimit:
    """The limit on stacks. size: the most trials of a stack; 1 for no stacks.

    measured: whether to measure first that a stack is faster than its trials one by one.
    """

    size: int = 1
    measured: bool = False


def stack_limit(fuse: int | str, studies: Sequence[TuningStudy], slots: int) -> StackLimit:
    """Returns the limit that `--fuse` sets: a number, "off", or "auto".

    "auto" takes from each study no more points than its sampler draws before it uses new results,
    and no more than leave a stack for each of the executor's slots.
    """
    if fuse == "off":
        return StackLimit()
    if isinstance(fuse, int):
        return StackLimit(fuse)
    size = 0
    for study in studies:
        remaining = study.remaining()
        per_round = points_per_round(study.plan)
        if remaining is None:
            size += min(per_round or TIMED_POINTS, TIMED_POINTS)
        else:
            size += min(per_round or remaining, -(-remaining // slots))
    return StackLimit(min(AUTO_STACK_SIZE, max(1, size)), measured=True)


def require_own_clocks(search: Search) -> None:
    """Raises InputError where training time is an objective, which a stack's trials share."""
    if any(objective.metric == TRAIN_SECONDS for objective in search.objectives):
        problem = (
            f"--fuse: the trials of a stack share its clock, but {TRAIN_SECONDS} is an objective"
        )
        raise InputError(Problem(problem, hint="leave one of the two out"))


def next_stack(ready: Sequence[SearchPoint], size: int) -> list[SearchPoint]:
    """Returns the first of the ready points, and those that train with it as one stack.

    A point whose worker died trains alone, so that what killed the worker affects no other point.
    """
    first = ready[0]
    if size == 1 or first.is_retry:
        return [first]
    device = first.current.trial.device
    alike = [p for p in ready if p.current.trial.device == device and not p.is_retry]
    by_id = {point.current.trial_id: point for point in alike}
    for trials in plan_stacks([point.current for point in alike], size).stacks:
        points = [by_id[planned.trial_id] for planned in trials]
        if first in points:
            return points
    return [first]


def describe_stacking(limit: StackLimit, studies: Sequence[StudyPlan]) -> list[str]:
    """Says how large stacks may be, and which studies train one trial at a time."""
    if limit.size == 1:
        return []
    from harness.training.stacked.compatibility import stacking_refusal

    lines = [f"stacks of at most {plural(limit.size, 'trial')}"]
    for study in studies:
        reason = stacking_refusal(study.base.trial, data_root())
        if reason is not None:
            lines.append(f"one by one: study {study.label}: {reason}")
    return lines
