"""Trains planned trials with an executor, as a stream of their records."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from harness.core.paths import stacks_file
from harness.core.process import Interrupts
from harness.core.records import Claim, Ended, Record
from harness.core.text import plural
from harness.execution.executors.base import Executor, TrainingTask
from harness.execution.experiment_checkpoints import ExperimentCheckpoints, InterruptedStack
from harness.execution.stacking import plan_stacks
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
    plan = plan_stacks(others, fuse, slots if auto else 1)
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
    waiting: Callable[[int], None] = lambda _: None,
    metric: str = "",
) -> Generator[TrialEvent | None]:
    """Trains `trials`, yielding each record with its trial. Yields None when a second has passed
    without a record, so that the caller can do other work.

    test_outputs: whether records carry weights and outputs. claim: called before a trial starts. A
    trial that another process holds waits until that process has trained it, or is gone. stacks:
    which trials train as stacks. checkpoints: of the experiment; without them an interrupted trial
    starts again from the beginning. waiting: called every second with the number of trials that
    other processes hold, while there is nothing else to do. metric: as in `TrainingTask`.

    The executor gets only tasks that it has room for, so that an interruption leaves the rest
    untouched, and a trial that waits for its device holds up none on another. While the caller
    handles a record, an interruption is deferred. When the generator is closed, or an exception
    leaves it, the executor is closed.
    """
    stacks = stacks or Stacks()
    queue = _Queue(trials, claim, stacks)
    make = partial(
        make_task, data_root, test_outputs, checkpoints, stacks.speedup_file, metric=metric
    )
    try:
        yield from _start_tasks(queue, executor, make)
        while queue.training or queue.claimed_elsewhere:
            if queue.training:
                yield from _train_until_an_end(queue, executor, interrupts)
            else:
                interrupts.check()
                waiting(len(queue.claimed_elsewhere))
                time.sleep(HELD_SECONDS)
                queue.retry()
            yield from _start_tasks(queue, executor, make)
    finally:
        executor.close()


def make_task(
    data_root: Path,
    test_outputs: bool,
    checkpoints: ExperimentCheckpoints | None,
    speedup_file: Path | None,
    trials: Sequence[PlannedTrial],
    folder: Path | None = None,
    metric: str = "",
) -> TrainingTask:
    """Returns the task that trains one trial, or several as a stack.

    folder: of the interrupted stack that they resume. metric: as in `TrainingTask`.
    """
    return TrainingTask(
        {planned.trial_id: planned.trial for planned in trials},
        data_root,
        test_outputs,
        speedup_file=speedup_file,
        checkpoints=checkpoints.for_task(trials, folder) if checkpoints else None,
        fingerprint=trials[0].fingerprint,  # Those of a stack have one data set and one model.
        metric=metric,
    )


def _start_tasks(
    queue: _Queue, executor: Executor, make: Callable[..., TrainingTask]
) -> Iterator[TrialEvent]:
    """Submits what there is room for. Yields the trials that another process has trained."""
    for device in queue.waiting:
        while executor.has_slot(device) and (entry := queue.next(device)):
            executor.submit(make(entry.trials, entry.folder))
    while queue.trained_elsewhere:
        yield queue.trained_elsewhere.popleft(), None


def _train_until_an_end(
    queue: _Queue, executor: Executor, interrupts: Interrupts
) -> Iterator[TrialEvent | None]:
    """Yields what trials record until one of them has ended."""
    while True:
        interrupts.check()
        with interrupts.delegated(executor.request_stop):
            event = executor.next(CHECK_SECONDS)
        if event is None:
            yield None
            continue
        with interrupts.deferred():
            yield queue.training[event.key], event.record
        if isinstance(event.record, Ended):
            del queue.training[event.key]
            return


@dataclass(frozen=True, slots=True)
class _Entry:
    """Trials that start as one task. folder: of the interrupted stack that they resume."""

    trials: Sequence[PlannedTrial]
    folder: Path | None = None


class _Queue:
    """The trials that have not ended.

    waiting: those that have not started, by device. training: those that have, by id.
    claimed_elsewhere: those that another process trains. trained_elsewhere: those that it has
    trained, until the caller removes them.
    """

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        claim: Callable[[PlannedTrial], Claim],
        stacks: Stacks,
    ) -> None:
        self.waiting: dict[str, deque[_Entry]] = {}
        self.training: dict[str, PlannedTrial] = {}
        self.claimed_elsewhere: list[PlannedTrial] = []
        self.trained_elsewhere: deque[PlannedTrial] = deque()
        self._claim = claim
        self._find_interrupted = stacks.find_interrupted
        self._add(trials, stacks.interrupted, stacks.new)

    def retry(self) -> None:
        """Queues the trials again that another process had claimed. If that process left a stack
        unfinished, its trials resume as that stack; the others start one by one."""
        trials, self.claimed_elsewhere = self.claimed_elsewhere, []
        self._add(trials, self._find_interrupted(trials))

    def next(self, device: str) -> _Entry | None:
        """Takes the next entry of a device with a trial that this process may train, and leaves out
        the others.

        Returns None if there is no such entry.
        """
        waiting = self.waiting[device]
        while waiting:
            entry = waiting.popleft()
            granted = list(self._claim_all(entry))
            if granted:
                self.training.update((planned.trial_id, planned) for planned in granted)
                return _Entry(granted, entry.folder)
        return None

    def _claim_all(self, entry: _Entry) -> Iterator[PlannedTrial]:
        """Yields the trials of an entry that this process may train.

        The process that claims the first trial of an interrupted stack gets all of them, so that
        two processes do not train the same stack.
        """
        is_taken = False
        for planned in entry.trials:
            claim = Claim.HELD if is_taken else self._claim(planned)
            if claim is Claim.GRANTED:
                yield planned
            elif claim is Claim.DONE:
                self.trained_elsewhere.append(planned)
            else:
                self.claimed_elsewhere.append(planned)
                is_taken = entry.folder is not None

    def _add(
        self,
        trials: Sequence[PlannedTrial],
        interrupted: Sequence[InterruptedStack],
        new: Sequence[Sequence[PlannedTrial]] = (),
    ) -> None:
        """Queues trials in their order; a stack stands where its first trial does."""
        entries = [_Entry(stack) for stack in new]
        entries += [_Entry(stack.trials, stack.folder) for stack in interrupted]
        entry_of = {planned.trial_id: entry for entry in entries for planned in entry.trials}
        for planned in trials:
            entry = entry_of.get(planned.trial_id) or _Entry((planned,))
            if entry.trials[0].trial_id == planned.trial_id:
                self.waiting.setdefault(planned.trial.device, deque()).append(entry)
