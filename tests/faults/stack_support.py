"""Shared by the tests of interrupted stacks: stacks with checkpoints, and their records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Started
from harness.execution import run_task as stacks
from harness.execution.checkpoint_folder import CheckpointFolder, Position, TrainingLog
from harness.execution.executors.base import Event, TrainingTask
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import make_task
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint
from tests.resume_support import comparable, planned
from tests.support import make_trial

OPTIMIZERS = {"sgd": 0.1, "momentum": 0.05, "adam": 0.01, "rmsprop": 0.003}
"""The last has no stacked rule."""


def grid(**fields: object) -> list[Trial]:
    """Trials of one stack: their dropout, plateau and optimizers have states of their own."""
    shared = {
        "model": {"name": "mlp", "hidden": [16], "dropout": 0.3},
        "scheduler": {"name": "plateau", "patience": 0, "threshold": 0.9},
        "batch_size": 128,
        "epochs": 3,
        "log_every": 4,
    }
    return [
        make_trial(**{**shared, "optimizer": name, "lr": lr, "seed": seed, **fields})
        for name, lr in OPTIMIZERS.items()
        for seed in (0, 1)
    ]


def plan_of(trials: Iterable[Trial]) -> list[PlannedTrial]:
    return [planned(trial) for trial in trials]


def task_of(
    trials: Sequence[PlannedTrial],
    root: Path,
    checkpoints: ExperimentCheckpoints | None = None,
    folder: Path | None = None,
) -> TrainingTask:
    """The task of a stack. folder: of the interrupted stack that it resumes."""
    return make_task(root, True, checkpoints, None, trials, folder)


def resumed_task(
    trials: Sequence[PlannedTrial], root: Path, checkpoints: ExperimentCheckpoints
) -> TrainingTask:
    """The task of the one stack among these trials that left a checkpoint."""
    (found,) = checkpoints.interrupted_stacks(trials)
    return task_of(found.trials, root, checkpoints, found.folder)


def records(events: Iterable[Event]) -> dict[str, list[Any]]:
    """The comparable part of the records, by trial; a repeated start counts once."""
    found: defaultdict[str, list[Any]] = defaultdict(list)
    for event in events:
        if not (isinstance(event.record, Started) and found[event.key]):
            found[event.key].append(event.record)
    return {key: comparable(all_of_it) for key, all_of_it in found.items()}


def starts(events: Iterable[Event]) -> list[Started]:
    return [event.record for event in events if isinstance(event.record, Started)]


def uninterrupted_records(trials: Sequence[PlannedTrial], root: Path) -> dict[str, list[Any]]:
    """The records of a stack that nobody interrupts."""
    return records(stacks.events(task_of(trials, root)))


class Killed(BaseException):
    """Ends training as a kill does, but not the process."""


def interrupt(task: TrainingTask, position: Position, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a stack until it has written a checkpoint at this position or later."""
    write = CheckpointFolder.write

    def write_and_raise(self: CheckpointFolder, checkpoint: Checkpoint, log: TrainingLog) -> None:
        write(self, checkpoint, log)
        if (checkpoint.epoch, checkpoint.batch) >= position:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "write", write_and_raise)
        try:
            list(stacks.events(task))
        except Killed:
            return
    raise AssertionError(f"it ended before {position}")
