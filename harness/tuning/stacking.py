"""How many asked points train together as one stack, and which of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

from harness.core.errors import InputError, Problem
from harness.core.paths import data_root
from harness.core.text import plural
from harness.execution.stacking import AUTO_STACK_SIZE, plan_stacks
from harness.experiment.experiment import TRAIN_SECONDS, NumericDimension, Search
from harness.tuning.points import StudyPlan
from harness.tuning.study import SearchPoint, TuningStudy

ROUND = 10
"""Points of a study asked at once by `--fuse auto` where only time limits it."""


@dataclass(frozen=True, slots=True)
class StackLimit:
    """most: trials of one stack; 1 for none. measured: whether each stack is to be seen first to be
    faster than one by one."""

    most: int = 1
    measured: bool = False


def stack_limit(fuse: int | str, studies: Sequence[TuningStudy], slots: int) -> StackLimit:
    """What `--fuse` asks for: a number, "off", or "auto".

    auto: of each study no more than its sampler draws before it looks at results again, and no more
    than leaves a stack for each of the engine's slots.
    """
    if fuse == "off":
        return StackLimit()
    if isinstance(fuse, int):
        return StackLimit(fuse)
    most = 0
    for study in studies:
        left = study.remaining()
        at_once = points_per_round(study.plan)
        if left is None:
            most += min(at_once or ROUND, ROUND)
        else:
            most += min(at_once or left, -(-left // slots))
    return StackLimit(min(AUTO_STACK_SIZE, max(1, most)), measured=True)


def points_per_round(study: StudyPlan) -> int | None:
    """Points that a study's sampler draws before it looks at what was measured; None for a sampler
    that never looks."""
    options = study.search.sampler.options
    match study.search.sampler.name:
        case "tpe" | "gp":
            return max(1, int(options["n_startup_trials"]))
        case "nsga2":
            return int(options["population_size"])
        case "cmaes":  # Hansen's population size.
            searched = sum(
                isinstance(dimension, NumericDimension) for dimension in study.dimensions
            )
            return max(int(options["n_startup_trials"]), 4 + int(3 * log(max(1, searched))))
    return None


def require_own_clocks(search: Search) -> None:
    """Raises InputError where a stack's clock would be taken for its trials'."""
    if any(objective.metric == TRAIN_SECONDS for objective in search.objectives):
        raise InputError(
            Problem(
                f"--fuse: the trials of a stack share its clock, and {TRAIN_SECONDS} is an "
                "objective",
                hint="leave one of the two out",
            )
        )


def next_stack(ready: Sequence[SearchPoint], most: int) -> list[SearchPoint]:
    """Those of the points at hand that train together with the first of them, itself included.

    One whose worker died trains alone, so that what killed it takes no other with it.
    """
    first = ready[0]
    if most == 1 or first.is_retry:
        return [first]
    device = first.current.trial.device
    like = [one for one in ready if one.current.trial.device == device and not one.is_retry]
    by_id = {one.current.trial_id: one for one in like}
    for members in plan_stacks([one.current for one in like], most).groups:
        found = [by_id[member.trial_id] for member in members]
        if first in found:
            return found
    return [first]


def told(stacks: StackLimit, studies: Sequence[StudyPlan]) -> list[str]:
    """How points will be stacked, for people, and whose are not."""
    if stacks.most == 1:
        return []
    from harness.training.stacked.compatibility import stacking_refusal

    lines = [f"stacks of at most {plural(stacks.most, 'trial')}"]
    for study in studies:
        reason = stacking_refusal(study.base.trial, data_root())
        if reason is not None:
            lines.append(f"one by one: study {study.label}: {reason}")
    return lines
