"""Runs planned trials: tasks to an engine, records to a writer, one writer for all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from harness.dispatch.engine import Engine, Task
from harness.experiment.spec import PlannedTrial
from harness.interrupts import Interrupts
from harness.records import Ended, Outcome, Record


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
) -> Iterator[tuple[PlannedTrial, Record]]:
    """Train `trials`, yielding each record after it was handed to the writer.

    The engine holds only tasks that it has room for, so that an interruption finds the rest
    untouched; a trial that waits for its device holds up none on another. Where the loop is left
    early, by an exception or by the caller, every run that was open is written as interrupted, and
    the engine is closed.
    """
    waiting: dict[str, deque[PlannedTrial]] = {}
    for one in trials:
        waiting.setdefault(one.trial.device, deque()).append(one)
    planned: dict[str, PlannedTrial] = {}
    runs: dict[str, RunWriter] = {}
    try:
        _fill(engine, waiting, planned, data_root, evidence)
        while planned:
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
            _fill(engine, waiting, planned, data_root, evidence)
    finally:
        engine.close()
        _interrupt(runs)


def _fill(
    engine: Engine,
    waiting: Mapping[str, deque[PlannedTrial]],
    planned: dict[str, PlannedTrial],
    data_root: Path,
    evidence: bool,
) -> None:
    for device, trials in waiting.items():
        while trials and engine.room(device):
            one = trials.popleft()
            planned[one.trial_id] = one
            engine.submit(Task(one.trial_id, one.trial, data_root, evidence))


def _interrupt(runs: Mapping[str, RunWriter]) -> None:
    for run in runs.values():
        run.record(Ended(Outcome.INTERRUPTED, {}, reason="the sweep was interrupted"))
