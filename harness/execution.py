"""Runs planned trials: tasks to an engine, records to a writer, one writer for all."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.dispatch.engine import Engine, Task
from harness.experiment.spec import PlannedTrial
from harness.interrupts import Interrupts
from harness.records import Ended, Outcome, Record
from harness.tracking.claims import Claim

HELD_SECONDS = 1.0
"""Between two looks at what another harness is running."""


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
) -> Iterator[tuple[PlannedTrial, Record | None]]:
    """Train `trials`, yielding each record after it was handed to the writer; None in its place
    for a trial that another harness has run.

    claim: asked before a trial is begun. A trial that another harness holds waits until that one
    has run it, or is gone.


    The engine holds only tasks that it has room for, so that an interruption finds the rest
    untouched; a trial that waits for its device holds up none on another. Where the loop is left
    early, by an exception or by the caller, every run that was open is written as interrupted, and
    the engine is closed.
    """
    queue = _Queue(trials, claim)
    planned: dict[str, PlannedTrial] = {}
    runs: dict[str, RunWriter] = {}
    try:
        yield from _fill(engine, queue, planned, data_root, evidence)
        while planned or queue.held:
            if not planned:
                time.sleep(HELD_SECONDS)
                queue.ask_again()
                yield from _fill(engine, queue, planned, data_root, evidence)
                continue
            event = engine.next()
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
            yield from _fill(engine, queue, planned, data_root, evidence)
    finally:
        engine.close()
        _interrupt(runs)


class _Queue:
    """Trials not begun, by device. held: those that another harness has claimed."""

    def __init__(
        self, trials: Sequence[PlannedTrial], claim: Callable[[PlannedTrial], Claim]
    ) -> None:
        self.waiting: dict[str, deque[PlannedTrial]] = {}
        self.held: list[PlannedTrial] = []
        self._claim = claim
        self._add(trials)

    def ask_again(self) -> None:
        """Let the trials that were held be claimed again."""
        held, self.held = self.held, []
        self._add(held)

    def next(self, device: str) -> tuple[PlannedTrial, Claim] | None:
        """The next trial of a `device` that is ours, or that another harness has run."""
        trials = self.waiting[device]
        while trials:
            one = trials.popleft()
            claim = self._claim(one)
            if claim is not Claim.HELD:
                return one, claim
            self.held.append(one)
        return None

    def _add(self, trials: Sequence[PlannedTrial]) -> None:
        for one in trials:
            self.waiting.setdefault(one.trial.device, deque()).append(one)


def _fill(
    engine: Engine,
    queue: _Queue,
    planned: dict[str, PlannedTrial],
    data_root: Path,
    evidence: bool,
) -> Iterator[tuple[PlannedTrial, None]]:
    """Begin what there is room for."""
    for device in queue.waiting:
        while engine.room(device) and (found := queue.next(device)) is not None:
            one, claim = found
            if claim is Claim.DONE:
                yield one, None
                continue
            planned[one.trial_id] = one
            engine.submit(Task(one.trial_id, one.trial, data_root, evidence))


def _interrupt(runs: Mapping[str, RunWriter]) -> None:
    for run in runs.values():
        run.record(Ended(Outcome.INTERRUPTED, {}, reason="the sweep was interrupted"))
