"""Which trials of a plan train as a stack: those that can, if a stack trains them faster here."""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.core.text import plural
from harness.execution.devices import available_cores
from harness.execution.executors.base import TrainingTask
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import STACKABLE_FIELDS, TRIAL_FIELDS, Choice, Trial

if TYPE_CHECKING:
    import torch

    from harness.training.stacked.stack import Stack

AUTO_STACK_SIZE: Final = 128
"""The most trials of a stack with `--fuse auto`: more make a small network no faster, take more
memory, and are all written at once."""
NONE_ALIKE: Final = "no other trial is like it but for what a stack may vary"
OWN_LOOP: Final = "a training loop of one's own trains one trial"
_FIELD: Final = "gain"
"""The name of the speedup in the file."""


@dataclass(frozen=True, slots=True)
class StackingPlan:
    """Which trials are stacked.

    stacks: of two trials or more, in the plan's order. singles: the other trials, each with the
    reason.
    """

    stacks: tuple[tuple[PlannedTrial, ...], ...]
    singles: tuple[tuple[PlannedTrial, str], ...]

    def without_refused(self, refusal: Callable[[Trial], str | None]) -> StackingPlan:
        """Returns the plan without the stacks whose model `refusal` returns a reason against; their
        trials train one by one."""
        reasons = [refusal(stack[0].trial) for stack in self.stacks]
        pairs = list(zip(self.stacks, reasons, strict=True))
        stacks = tuple(stack for stack, reason in pairs if reason is None)
        refused = [(trial, reason) for stack, reason in pairs if reason for trial in stack]
        return StackingPlan(stacks, (*self.singles, *refused))

    def lines(self) -> list[str]:
        """Returns the lines that list the stacks, and why other trials train alone."""
        sizes = Counter(len(stack) for stack in self.stacks)
        stacks = [
            f"{plural(n, 'stack')} of {size} trials"
            for size, n in sorted(sizes.items(), reverse=True)
        ]
        reasons = Counter(reason for _, reason in self.singles)
        return [
            ", ".join(stacks) or "no stacks",
            *(
                f"trained one by one: {plural(n, 'trial')}: {reason}"
                for reason, n in reasons.most_common()
            ),
        ]


def plan_stacks(trials: Sequence[PlannedTrial], fuse: int | str, slots: int = 1) -> StackingPlan:
    """Divides trials into stacks of almost equal sizes.

    fuse: the value of the flag: the most trials of a stack, or "auto" for `AUTO_STACK_SIZE`.
    slots: how many stacks train at once. Trials that can train together form a multiple of as many
    stacks, so that no slot is idle while others train.

    Looks at the trials' fields alone: a model may still turn out to be `Unstackable`, and its
    trials then train one by one.
    """
    max_size = fuse if isinstance(fuse, int) else AUTO_STACK_SIZE
    alike: dict[Hashable, list[PlannedTrial]] = {}
    excluded: list[tuple[PlannedTrial, str]] = []
    key = _StackKey()
    for planned in trials:
        if reason := _why_alone(planned.trial):
            excluded.append((planned, reason))
        else:
            alike.setdefault(key.of(planned), []).append(planned)
    parts = [part for group in alike.values() for part in _divide(group, max_size, slots)]
    return StackingPlan(
        stacks=tuple(tuple(part) for part in parts if len(part) > 1),
        singles=(*((part[0], NONE_ALIKE) for part in parts if len(part) == 1), *excluded),
    )


def _why_alone(trial: Trial) -> str:
    """Returns why a trial cannot be one of a stack, whatever its model; "" if it can."""
    if trial.has_own_loop:
        return OWN_LOOP
    reason = trial.optimizer.component.one_by_one(trial.optimizer.options)
    return f"optimizer {trial.optimizer.name}: {reason}" if reason else ""


def _divide(
    candidates: list[PlannedTrial], max_size: int, slots: int
) -> Iterable[list[PlannedTrial]]:
    """Divides trials into as few parts as `max_size` and a multiple of `slots` allow; the sizes
    differ by at most one.

    Trials of one seed stay together, as they share their batches. If there are fewer seeds than
    parts, each part gets trials of every optimizer, so that no part takes longer than the others.
    """
    count = min(len(candidates), -(-len(candidates) // (max_size * slots)) * slots)
    trials = [planned.trial for planned in candidates]
    if len({trial.seed for trial in trials}) < count:
        by_optimizer = sorted(range(len(trials)), key=lambda i: trials[i].optimizer.name)
        parts = [by_optimizer[part::count] for part in range(count)]
    else:
        by_seed = sorted(range(len(trials)), key=lambda i: trials[i].seed)
        size, larger = divmod(len(trials), count)
        bounds = [part * size + min(part, larger) for part in range(count + 1)]
        parts = [by_seed[start:stop] for start, stop in pairwise(bounds)]
    return ([candidates[i] for i in sorted(part)] for part in parts)


class _StackKey:
    """What the trials of one stack have in common.

    The trials of a grid share their choices, so that each choice is formatted once.
    """

    def __init__(self) -> None:
        self._names = [name for name in TRIAL_FIELDS if name not in STACKABLE_FIELDS]
        self._texts: dict[int, tuple[Choice[object], str]] = {}  # type: ignore[type-var]

    def of(self, planned: PlannedTrial) -> Hashable:
        values = (getattr(planned.trial, name) for name in self._names)
        return (planned.fingerprint, *(self._hashable(value) for value in values))

    def _hashable(self, value: Hashable) -> Hashable:
        if isinstance(value, tuple):
            return tuple(self._hashable(item) for item in value)
        if not isinstance(value, Choice):
            return value
        if id(value) not in self._texts:
            self._texts[id(value)] = (value, str(value.resolved()))
        return self._texts[id(value)][1]


def stored_speedup(task: TrainingTask, file: Path, device: torch.device) -> dict[str, Any] | None:
    """Returns how much faster a stack of a task's trials is, if this machine has measured it, as
    metadata of its start; else None. Raises Unstackable if one by one is faster."""
    factor = _load(file).get(_key(task, device), {}).get(_FIELD)
    return None if factor is None else _describe(task, factor, "measured before")


def measured_speedup(task: TrainingTask, file: Path, stack: Stack) -> dict[str, Any]:
    """Measures the same, beside whatever else trains now, and stores it in the file.

    Leaves the stack as it was before. Raises also what building a trial raises.
    """
    from harness.training.stacked import speedup

    factor = speedup.measure_speedup(stack, task.data_root)
    if factor is not None:
        _store(file, _key(task, stack.device), factor)
    return _describe(task, factor, "measured now")


def _describe(task: TrainingTask, factor: float | None, how: str) -> dict[str, Any]:
    from harness.training.stacked.modules.forward_pass import Unstackable

    what = f"{task.trial.model.name} on {task.trial.dataset.name}"
    size = f"a stack of {len(task.trials)}"
    if factor is None:
        return {"fusing": f"{what}: {size}, which takes too little time to be measured first"}
    if factor > 1:
        description = f"{what}: {size} trains {factor:.3g} times as fast ({how})"
        return {"fusing": description, "fused_gain": round(factor, 2)}
    raise Unstackable(
        f"{what}: one by one, as {size} would train {factor:.2g} times as fast ({how})"
    )


def _key(task: TrainingTask, device: torch.device) -> str:
    """Returns all that the speedup depends on; sizes of stacks are rounded to powers of two."""
    import torch

    trial = task.trial
    cores = f"{available_cores()} cores torch {version('torch')}"
    parts = [
        f"{platform.node()} {platform.machine()} {cores}",
        trial.model.resolved(),
        trial.dataset.identity(),
        trial.batch_size,
        trial.precision,
        [choice.resolved() for choice in trial.augment],
        len(task.trials).bit_length(),
        sorted({trial.optimizer.name for trial in task.trials.values()}),
        str(device),
        torch.get_num_threads(),
        torch.__version__,
    ]
    return json.dumps(parts, sort_keys=True)


def _load(file: Path) -> dict[str, dict[str, float]]:
    """Returns all stored speedups; empty if the file is missing or damaged, as measuring again
    takes only seconds."""
    with suppress(OSError, ValueError):
        stored: dict[str, dict[str, float]] = json.loads(file.read_text(encoding="utf-8"))
        return stored
    return {}


def _store(file: Path, key: str, factor: float) -> None:
    """Adds a speedup to the file. If several processes do so at once, one may be lost."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(_load(file) | {key: {_FIELD: factor}}, indent=1)
    partial.write_text(content, encoding="utf-8")
    partial.replace(file)
