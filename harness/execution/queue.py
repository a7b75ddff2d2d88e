"""Trains planned trials with an executor, as a stream of their records."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.core.paths import stacks_file
from harness.core.process import Interrupts
from harness.core.records import Claim, Ended, Record
from harness.core.text import plural
from harness.execution.executors.base import Executor, TrainingTask
from harness.execution.experiment_checkpoints import (
    ExperimentCheckpoints,
    InterruptedStack,
    TaskCheckpoints,
)
from harness.execution.stacking import max_stack_size, plan_stacks
from harness.experiment.plan import PlannedTrial

HELD_SECONDS = 1.0
"""Between two attempts to claim the trials that other processes train."""

CHECK_SECONDS: Final = 1.0
"""The longest wait for a record before the queue checks whether it was interrupted."""

TrialEvent = tuple[PlannedTrial, Record | None]
"""A trial and its record, or None if another process has trained the trial."""


@dataclass(frozen=True, slots=True)
class Stacks:
    """The trials that train as stacks, each in one stack at most.

    new: stacks that start from the beginning. interrupted: stacks that resume from a checkpoint.
    speedup_file: the file of measured speed-ups, if each new stack is first to be measured against
    training its trials one by one. find_interrupted: returns the stacks that can be
    resumed now, among trials that another process had claimed.
    """

    new: Sequence[Sequence[PlannedTrial]] = ()
    interrupted: Sequence[InterruptedStack] = ()
    speedup_file: Path | None = None
    find_interrupted: Callable[[Sequence[PlannedTrial]], Sequence[InterruptedStack]] = lambda _: ()


def stacks_of(
    trials: Sequence[PlannedTrial], fuse: int | str, slots: int, checkpoints: ExperimentCheckpoints
) -> tuple[Stacks, list[str]]:
    """Returns the stacks that `--fuse` (a number, "auto" or "off") makes of trials, and what they
    are in words.

    slots: how many tasks train at once. checkpoints: trials whose stack left a checkpoint resume
    as that stack, whatever its size; with "off" they start again from the beginning.
    """
    interrupted = checkpoints.interrupted_stacks(trials)
    resumed = {planned.trial_id for stack in interrupted for planned in stack.trials}
    count = plural(len(resumed), "trial")
    if fuse == "off":
        line = f"Restarting {count}: their checkpoints need --fuse."
        return Stacks(), [line] if interrupted else []
    auto = fuse == "auto"
    others = [planned for planned in trials if planned.trial_id not in resumed]
    plan = plan_stacks(others, max_stack_size(fuse), slots if auto else 1)
    lines = plan.lines() if others else []
    if interrupted:
        stacks = plural(len(interrupted), "interrupted stack")
        lines.insert(0, f"resuming {stacks} of {count}")
    speedup_file = stacks_file() if auto else None
    return Stacks(plan.stacks, interrupted, speedup_file, checkpoints.interrupted_stacks), lines


def execute(
    trials: Sequence[PlannedTrial],
    executor: Executor,
    interrupts: Interrupts,
    data_root: Path,
    test_outputs: bool,
    claim: Callable[[PlannedTrial], Claim] = lambda _: Claim.GRANTED,
    stacks: Stacks | None = None,
    checkpoints: ExperimentCheckpoints | None = None,
) -> Generator[TrialEvent | None]:
    """Trains `trials`, yielding each record with its trial. Yields None when a second has passed
    without a record, so that the caller can do other work.

    test_outputs: whether records carry weights and outputs. claim: called before a trial starts. A
    trial that another process holds waits until that process has trained it, or is gone. stacks:
    which trials train as stacks. checkpoints: of the experiment; without them an interrupted trial
    starts again from the beginning.

    The executor gets only tasks that it has room for, so that an interruption leaves the rest
    untouched, and a trial that waits for its device holds up none on another. While the caller
    handles a record, an interruption is deferred. When the generator is closed, or an exception
    leaves it, the executor is closed.
    """
    stacks = stacks or Stacks()
    queue = _Queue(trials, claim, stacks)
    running: dict[str, PlannedTrial] = {}

    def start_tasks() -> Iterator[TrialEvent]:
        """Submits what there is room for. Yields the trials that another process has trained."""
        for device in queue.waiting:
            while executor.has_slot(device) and (entry := queue.next(device)):
                if trials := entry.trials:
                    running.update({planned.trial_id: planned for planned in trials})
                    files = checkpoints.for_task(trials, entry.folder) if checkpoints else None
                    speedups = stacks.speedup_file
                    executor.submit(make_task(trials, data_root, test_outputs, speedups, files))
                yield from ((planned, None) for planned in entry.done)

    try:
        yield from start_tasks()
        while running or queue.claimed_elsewhere:
            interrupts.check()
            if running:
                with interrupts.delegated(executor.request_stop):
                    event = executor.next(CHECK_SECONDS)
                if event is None:
                    yield None
                    continue
                with interrupts.deferred():
                    yield running[event.key], event.record
                if not isinstance(event.record, Ended):
                    continue
                del running[event.key]
            else:
                time.sleep(HELD_SECONDS)
                queue.retry()
            yield from start_tasks()
    finally:
        executor.close()


def make_task(
    trials: Sequence[PlannedTrial],
    data_root: Path,
    test_outputs: bool,
    speedup_file: Path | None,
    checkpoints: TaskCheckpoints | None,
) -> TrainingTask:
    """Returns the task that trains one trial, or several as a stack."""
    (key, trial), *others = ((planned.trial_id, planned.trial) for planned in trials)
    return TrainingTask(
        key,
        trial,
        data_root,
        test_outputs,
        others=tuple(others),
        speedup_file=speedup_file,
        checkpoints=checkpoints,
    )


@dataclass(frozen=True, slots=True)
class _Entry:
    """Trials that start as one task. folder: of the interrupted stack that they resume."""

    trials: Sequence[PlannedTrial]
    folder: Path | None = None


@dataclass(frozen=True, slots=True)
class _ClaimedEntry:
    """An entry's trials that this process may train, and those that another one has trained."""

    trials: Sequence[PlannedTrial]
    done: Sequence[PlannedTrial]
    folder: Path | None


class _Queue:
    """The trials that have not started, by device.

    claimed_elsewhere: trials that another process trains.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        claim: Callable[[PlannedTrial], Claim],
        stacks: Stacks,
    ) -> None:
        self.waiting: dict[str, deque[_Entry]] = {}
        self.claimed_elsewhere: list[PlannedTrial] = []
        self._claim = claim
        self._find_interrupted = stacks.find_interrupted
        new = [_Entry(stack) for stack in stacks.new]
        self._add(
            trials, new + [_Entry(stack.trials, stack.folder) for stack in stacks.interrupted]
        )

    def retry(self) -> None:
        """Queues the trials again that another process had claimed. If that process left a stack
        unfinished, its trials resume as that stack; the others start one by one."""
        trials, self.claimed_elsewhere = self.claimed_elsewhere, []
        stacks = self._find_interrupted(trials)
        self._add(trials, [_Entry(stack.trials, stack.folder) for stack in stacks])

    def next(self, device: str) -> _ClaimedEntry | None:
        """Claims the next entry of a device with a trial that no other process trains.

        Returns None if there is no such entry.
        """
        waiting = self.waiting[device]
        while waiting:
            entry = waiting.popleft()
            answers = list(self._claim_all(entry))
            self.claimed_elsewhere += [planned for planned, claim in answers if claim is Claim.HELD]
            done = [planned for planned, claim in answers if claim is Claim.DONE]
            granted = [planned for planned, claim in answers if claim is Claim.GRANTED]
            if granted or done:
                return _ClaimedEntry(granted, done, entry.folder)
        return None

    def _claim_all(self, entry: _Entry) -> Iterator[tuple[PlannedTrial, Claim]]:
        """Claims an entry's trials. The process that claims the first trial of an interrupted
        stack gets all of them, so that two processes do not train the same stack."""
        is_taken = False
        for planned in entry.trials:
            claim = Claim.HELD if is_taken else self._claim(planned)
            is_taken = claim is Claim.HELD and entry.folder is not None
            yield planned, claim

    def _add(self, trials: Sequence[PlannedTrial], stacks: Sequence[_Entry]) -> None:
        """Queues trials in their order; a stack stands where its first trial does."""
        stack_of = {planned.trial_id: stack for stack in stacks for planned in stack.trials}
        for planned in trials:
            entry = stack_of.get(planned.trial_id) or _Entry((planned,))
            if entry.trials[0].trial_id == planned.trial_id:
                self.waiting.setdefault(planned.trial.device, deque()).append(entry)
