"""What tests of interrupted stacks share: stacks in a room of checkpoints, and their records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Started
from harness.execution import run_stack as stacks
from harness.execution.checkpoint_folder import CheckpointFolder, Position, TrainingLog
from harness.execution.executors.base import Event, Task
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
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
    members: Sequence[PlannedTrial],
    root: Path,
    room: ExperimentCheckpoints | None = None,
    folder: Path | None = None,
) -> Task:
    """The task of a stack. folder: of the one that it goes on as."""
    (key, trial), *others = ((one.trial_id, one.trial) for one in members)
    kept = room.for_task(members, folder) if room else None
    return Task(key, trial, root, test_outputs=True, others=tuple(others), checkpoints=kept)


def going_on(members: Sequence[PlannedTrial], root: Path, room: ExperimentCheckpoints) -> Task:
    """The task of the one stack among these trials that left a checkpoint."""
    (found,) = room.interrupted_stacks(members)
    return task_of(found.trials, root, room, found.folder)


def records(events: Iterable[Event]) -> dict[str, list[Any]]:
    """What is comparable, by trial; a start that came again counts once."""
    found = defaultdict(list)
    for event in events:
        if not (isinstance(event.record, Started) and found[event.key]):
            found[event.key].append(event.record)
    return {key: comparable(all_of_it) for key, all_of_it in found.items()}


def starts(events: Iterable[Event]) -> list[Started]:
    return [event.record for event in events if isinstance(event.record, Started)]


def whole(members: Sequence[PlannedTrial], root: Path) -> dict[str, list[Any]]:
    """Of a stack that nobody interrupts."""
    return records(stacks.events(task_of(members, root)))


class Cut(BaseException):
    """Ends a process' training as a kill does, but not the process."""


def cut(task: Task, place: Position, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train a stack until it has kept a checkpoint there."""
    write = CheckpointFolder.write

    def write_and_fall(self: CheckpointFolder, checkpoint: Checkpoint, log: TrainingLog) -> None:
        write(self, checkpoint, log)
        if (checkpoint.epoch, checkpoint.batch) >= place:
            raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(CheckpointFolder, "write", write_and_fall)
        try:
            list(stacks.events(task))
        except Cut:
            return
    raise AssertionError(f"it ended before {place}")
