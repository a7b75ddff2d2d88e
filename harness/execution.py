"""Runs planned trials: tasks to an engine, records to a writer, one writer for all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.dispatch.checkpoints import CheckpointRoom
from harness.dispatch.engine import Engine, Task
from harness.experiment.spec import PlannedTrial
from harness.groups import group, largest
from harness.interrupts import Interrupts
from harness.paths import stacks_file
from harness.records import Ended, Outcome, Record
from harness.tracking.claims import Claim

HELD_SECONDS = 1.0
"""Between two looks at what another harness is running."""

CHECK_SECONDS = 1.0
"""The longest wait for a record before a signal that was missed is looked for."""


@dataclass(frozen=True, slots=True)
class Stacks:
    """Trials that train together. groups: none in two of them. measured: a file of what was
    measured, where each is to be seen first to be faster than one by one."""

    groups: Sequence[Sequence[PlannedTrial]] = ()
    measured: Path | None = None


def stacks_of(
    trials: Sequence[PlannedTrial], fuse: int | str, slots: int
) -> tuple[Stacks, list[str]]:
    """What `--fuse` makes of trials (a number, "auto" or "off"), and what that is, for people.

    slots: how many tasks train at once.
    """
    if fuse == "off":
        return Stacks(), []
    auto = fuse == "auto"
    grouping = group(trials, largest(fuse), slots if auto else 1)
    return Stacks(grouping.groups, stacks_file() if auto else None), grouping.lines()


class RunWriter(Protocol):
    """Writes the records of one trial."""

    def record(self, record: Record) -> None: ...


class Writer(Protocol):
    """Opens a run for each trial."""

    def start_trial(self, planned: PlannedTrial) -> RunWriter: ...


def execute(
    trials: Sequence[PlannedTrial],
    engine: Engine,
    writer: Writer,
    interrupts: Interrupts,
    data_root: Path,
    evidence: bool,
    claim: Callable[[PlannedTrial], Claim] = lambda _: Claim.GRANTED,
    stacks: Stacks | None = None,
    checkpoints: CheckpointRoom | None = None,
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

    def task(members: Sequence[PlannedTrial]) -> Task:
        (key, trial), *others = ((one.trial_id, one.trial) for one in members)
        return Task(
            key,
            trial,
            data_root,
            evidence,
            others=tuple(others),
            measure=stacks.measured,
            checkpoints=checkpoints.of(members) if checkpoints else None,
        )

    try:
        yield from _fill(engine, queue, planned, task)
        while planned or queue.held:
            interrupts.check()
            if not planned:
                time.sleep(HELD_SECONDS)
                queue.ask_again()
                yield from _fill(engine, queue, planned, task)
                continue
            with interrupts.asking(engine.stop_soon):
                event = engine.next(CHECK_SECONDS)
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
            yield from _fill(engine, queue, planned, task)
    finally:
        engine.close()
        _interrupt(runs)


class _Queue:
    """Trials not begun, by device; those of a stack together, where its first one stands. held:
    those that another harness has claimed."""

    def __init__(
        self,
        trials: Sequence[PlannedTrial],
        claim: Callable[[PlannedTrial], Claim],
        stacks: Stacks,
    ) -> None:
        self.waiting: dict[str, deque[Sequence[PlannedTrial]]] = {}
        self.held: list[PlannedTrial] = []
        self._claim = claim
        stack_of = {one.trial_id: members for members in stacks.groups for one in members}
        for one in trials:
            members = stack_of.get(one.trial_id, (one,))
            if members[0].trial_id == one.trial_id:
                self._add(members)

    def ask_again(self) -> None:
        """Let the trials that were held be claimed again, each by itself."""
        held, self.held = self.held, []
        for one in held:
            self._add((one,))

    def next(self, device: str) -> list[tuple[PlannedTrial, Claim]]:
        """The next trial of a `device`, or the trials of a stack, that are ours or that another
        harness has run; empty where there are none."""
        waiting = self.waiting[device]
        while waiting:
            asked = [(one, self._claim(one)) for one in waiting.popleft()]
            self.held += [one for one, claim in asked if claim is Claim.HELD]
            found = [pair for pair in asked if pair[1] is not Claim.HELD]
            if found:
                return found
        return []

    def _add(self, members: Sequence[PlannedTrial]) -> None:
        self.waiting.setdefault(members[0].trial.device, deque()).append(members)


def _fill(
    engine: Engine,
    queue: _Queue,
    planned: dict[str, PlannedTrial],
    task: Callable[[Sequence[PlannedTrial]], Task],
) -> Iterator[tuple[PlannedTrial, None]]:
    """Begin what there is room for."""
    for device in queue.waiting:
        while engine.room(device) and (found := queue.next(device)):
            ours = [one for one, claim in found if claim is not Claim.DONE]
            if ours:
                planned |= {one.trial_id: one for one in ours}
                engine.submit(task(ours))
            yield from ((one, None) for one, claim in found if claim is Claim.DONE)


def _interrupt(runs: Mapping[str, RunWriter]) -> None:
    for run in runs.values():
        run.record(Ended(Outcome.INTERRUPTED, {}, reason="the sweep was interrupted"))
