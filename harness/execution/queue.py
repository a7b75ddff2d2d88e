"""Runs planned trials: tasks to an engine, records to a writer, one writer for all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.core.claim import Claim
from harness.core.interrupts import Interrupts
from harness.core.paths import stacks_file
from harness.core.records import Ended, Outcome, Record
from harness.core.text import plural
from harness.execution.executors.base import Executor, Task
from harness.execution.experiment_checkpoints import ExperimentCheckpoints, InterruptedStack
from harness.execution.stacking import max_stack_size, plan_stacks
from harness.experiment.plan import PlannedTrial

HELD_SECONDS = 1.0
"""Between two looks at what another harness is running."""

CHECK_SECONDS = 1.0
"""The longest wait for a record before a signal that was missed is looked for."""


@dataclass(frozen=True, slots=True)
class Stacks:
    """Trials that train together, none in two groups. groups: that begin. begun: that go on.
    measured: a file of what was measured, where each that begins is to be seen first to be faster
    than one by one. left: of trials that another harness held, which go on together."""

    groups: Sequence[Sequence[PlannedTrial]] = ()
    begun: Sequence[InterruptedStack] = ()
    measured: Path | None = None
    left: Callable[[Sequence[PlannedTrial]], Sequence[InterruptedStack]] = lambda _: ()


def stacks_of(
    trials: Sequence[PlannedTrial], fuse: int | str, slots: int, checkpoints: ExperimentCheckpoints
) -> tuple[Stacks, list[str]]:
    """What `--fuse` makes of trials (a number, "auto" or "off"), and what that is, for people.

    slots: how many tasks train at once. checkpoints: trials whose stack left one there go on
    together, however many they are; with "off" they begin anew.
    """
    begun = checkpoints.interrupted_stacks(trials)
    together = {one.trial_id for stack in begun for one in stack.trials}
    count = plural(len(together), "trial")
    if fuse == "off":
        told = f"begun anew, as --fuse is off: {count} of interrupted stacks"
        return Stacks(), [told] if begun else []
    auto = fuse == "auto"
    others = [one for one in trials if one.trial_id not in together]
    grouping = plan_stacks(others, max_stack_size(fuse), slots if auto else 1)
    lines = [f"interrupted stacks to go on with: {len(begun)}, of {count}"] if begun else []
    lines += grouping.lines() if others else []
    measured = stacks_file() if auto else None
    return Stacks(grouping.stacks, begun, measured, checkpoints.interrupted_stacks), lines


class RunWriter(Protocol):
    """Writes the records of one trial."""

    def record(self, record: Record) -> None: ...


class Writer(Protocol):
    """Opens a run for each trial."""

    def start_trial(self, planned: PlannedTrial) -> RunWriter: ...


def execute(
    trials: Sequence[PlannedTrial],
    executor: Executor,
    writer: Writer,
    interrupts: Interrupts,
    data_root: Path,
    test_outputs: bool,
    claim: Callable[[PlannedTrial], Claim] = lambda _: Claim.GRANTED,
    stacks: Stacks | None = None,
    checkpoints: ExperimentCheckpoints | None = None,
) -> Generator[tuple[PlannedTrial, Record | None], None, None]:
    """Train `trials`, yielding each record after it was handed to the writer; None in its place
    for a trial that another harness has run.

    claim: asked before a trial is begun. A trial that another harness holds waits until that one
    has run it, or is gone. stacks: which of the trials begin together. checkpoints: where they are
    kept, so that what was interrupted goes on; without, it begins anew.

    The engine holds only tasks that it has room for, so that an interruption finds the rest
    untouched; a trial that waits for its device holds up none on another. Where the loop is left
    early, by an exception or by the caller, every run that was open is written as interrupted, and
    the engine is closed.
    """
    stacks = stacks or Stacks()
    queue = _Queue(trials, claim, stacks)
    planned: dict[str, PlannedTrial] = {}
    runs: dict[str, RunWriter] = {}

    def task(members: Sequence[PlannedTrial], folder: Path | None) -> Task:
        (key, trial), *others = ((one.trial_id, one.trial) for one in members)
        return Task(
            key,
            trial,
            data_root,
            test_outputs,
            others=tuple(others),
            speedup_file=stacks.measured,
            checkpoints=checkpoints.for_task(members, folder) if checkpoints else None,
        )

    try:
        yield from _fill(executor, queue, planned, task)
        while planned or queue.held:
            interrupts.check()
            if not planned:
                time.sleep(HELD_SECONDS)
                queue.ask_again()
                yield from _fill(executor, queue, planned, task)
                continue
            with interrupts.delegated(executor.request_stop):
                event = executor.next(CHECK_SECONDS)
            if event is None:
                continue
            one = planned[event.key]
            with interrupts.deferred():
                if event.key not in runs:
                    runs[event.key] = writer.start_trial(one)
                runs[event.key].record(event.record)
                if isinstance(event.record, Ended):
                    del runs[event.key], planned[event.key]
            yield one, event.record
            if isinstance(event.record, Ended):
                yield from _fill(executor, queue, planned, task)
    finally:
        executor.close()
        _interrupt(runs)


@dataclass(frozen=True, slots=True)
class _Together:
    """Trials that begin together. folder: of the stack that they go on as."""

    members: Sequence[PlannedTrial]
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class _Claimed:
    """What was claimed of trials that begin together: ours; done, which another harness has run.
    folder: as in `_Together`."""

    ours: Sequence[PlannedTrial]
    done: Sequence[PlannedTrial]
    folder: Path | None


class _Queue:
    """Trials not begun, by device; those of a stack together, where its first one stands. held:
    those that another harness has claimed."""

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        claim: Callable[[PlannedTrial], Claim],
        stacks: Stacks,
    ) -> None:
        self.waiting: dict[str, deque[_Together]] = {}
        self.held: list[PlannedTrial] = []
        self._claim = claim
        self._left = stacks.left
        begin = [_Together(members) for members in stacks.groups]
        self._add(trials, begin + [_Together(one.trials, one.folder) for one in stacks.begun])

    def ask_again(self) -> None:
        """Let the trials that were held be claimed again: those of a stack that its process left
        go on together, the others each by itself."""
        held, self.held = self.held, []
        self._add(held, [_Together(one.trials, one.folder) for one in self._left(held)])

    def next(self, device: str) -> _Claimed | None:
        """The next trial of a `device`, or the trials of a stack, that are ours or that another
        harness has run; None where there are none."""
        waiting = self.waiting[device]
        while waiting:
            together = waiting.popleft()
            asked = list(self._ask(together))
            self.held += [one for one, claim in asked if claim is Claim.HELD]
            done = [one for one, claim in asked if claim is Claim.DONE]
            ours = [one for one, claim in asked if claim is Claim.GRANTED]
            if ours or done:
                return _Claimed(ours, done, together.folder)
        return None

    def _ask(self, together: _Together) -> Iterator[tuple[PlannedTrial, Claim]]:
        """Claim trials. Of a stack that goes on, who has the first has the rest: two harnesses that
        ask at once do not both train it."""
        held = False
        for one in together.members:
            claim = Claim.HELD if held else self._claim(one)
            held = claim is Claim.HELD and together.folder is not None
            yield one, claim

    def _add(self, trials: Sequence[PlannedTrial], groups: Sequence[_Together]) -> None:
        group_of = {one.trial_id: group for group in groups for one in group.members}
        for one in trials:
            group = group_of.get(one.trial_id) or _Together((one,))
            if group.members[0].trial_id == one.trial_id:
                self.waiting.setdefault(one.trial.device, deque()).append(group)


def _fill(
    executor: Executor,
    queue: _Queue,
    planned: dict[str, PlannedTrial],
    task: Callable[[Sequence[PlannedTrial], Path | None], Task],
) -> Iterator[tuple[PlannedTrial, None]]:
    """Begin what there is room for."""
    for device in queue.waiting:
        while executor.has_slot(device) and (found := queue.next(device)):
            if found.ours:
                planned |= {one.trial_id: one for one in found.ours}
                executor.submit(task(found.ours, found.folder))
            yield from ((one, None) for one in found.done)


def _interrupt(runs: Mapping[str, RunWriter]) -> None:
    for run in runs.values():
        run.record(Ended(Outcome.INTERRUPTED, {}, reason="the sweep was interrupted"))
