"""What every executor takes, hands back and promises."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.core.records import Record
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.experiment_checkpoints import TaskCheckpoints
from harness.experiment.trial import Trial


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """One trial to train, or several to train as one stack.

    key: the trial's id. test_outputs: whether `Ended` carries weights and test outputs.
    others: the trials that train with it as one stack, with their ids; none with Ray.
    speedup_file: a file of measured speedups, if the executor is to measure first whether the
    stack is faster than its trials one by one. checkpoints: where the trials keep them; without, an
    interrupted trial starts again.

    The executor sets `device`, the device slot that it chose (None leaves the choice to the trial's
    own field), and `exclusive`, whether no other task trains on that device at the same time, so
    that its times can be compared.
    """

    key: str
    trial: Trial
    data_root: Path
    test_outputs: bool
    exclusive: bool = False
    device: str | None = None
    others: tuple[tuple[str, Trial], ...] = ()
    speedup_file: Path | None = None
    checkpoints: TaskCheckpoints | None = None

    @property
    def trials(self) -> tuple[tuple[str, Trial], ...]:
        """All of its trials, with their ids."""
        return ((self.key, self.trial), *self.others)

    @property
    def is_stack(self) -> bool:
        """Whether it trains as a stack: one that resumes may have a single trial left."""
        if self.others or self.checkpoints is None or self.checkpoints.stack is None:
            return bool(self.others)
        return CheckpointFolder(self.checkpoints.stack).latest_position() is not None

    @property
    def checkpoint_folder(self) -> CheckpointFolder | None:
        """The folder of its stack, or of its lone trial."""
        if self.checkpoints is None:
            return None
        path = self.checkpoints.stack if self.is_stack else self.checkpoints.folders[self.key]
        return None if path is None else CheckpointFolder(path)

    @property
    def latest_position(self) -> Position | None:
        """The position of the latest checkpoint; None if there is none."""
        folder = self.checkpoint_folder
        return None if folder is None else folder.latest_position()

    def without(self, key: str) -> TrainingTask | None:
        """Returns the task with one trial less, or None if none is left."""
        remaining = {trial_id for trial_id, _ in self.trials if trial_id != key}
        return self.only(remaining) if remaining else None

    def only(self, keys: Collection[str]) -> TrainingTask:
        """Returns the task with at least one of its trials, which resume where all would have."""
        (key, trial), *others = (pair for pair in self.trials if pair[0] in keys)
        return replace(self, key=key, trial=trial, others=tuple(others))

    def restart_with(self, trials: Sequence[tuple[str, Trial]]) -> TrainingTask:
        """Returns the task with some of its trials, which start again."""
        keys = [key for key, _ in trials]
        checkpoints = self.checkpoints.restart_with(keys) if self.checkpoints else None
        return replace(self.only(keys), checkpoints=checkpoints)


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the trial with this key. A trial's last event holds an `Ended`."""

    key: str
    record: Record

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its fields, as `Measured` is."""
        return Event, (self.key, self.record)


class Executor(Protocol):
    """Trains tasks and hands back their records.

    The events of one trial come in the order in which training yielded them; those of different
    trials may interleave. Every submitted trial ends with exactly one `Ended`, even if its process
    or node dies, unless the executor is closed first. An exception in a trial never leaves the
    executor: it becomes an `Ended` with the outcome failed. Not thread-safe: one thread calls it.
    """

    @property
    def slots(self) -> int:
        """How many tasks can train at once."""
        ...

    @property
    def is_local(self) -> bool:
        """Whether tasks train in this process, while `next` is called."""
        ...

    @property
    def description(self) -> str:
        """Where tasks train, for the user: "2 workers, 1 thread each"."""
        ...

    def prepare(self) -> None:
        """Starts what takes time before the first task can train, beside this process if possible.

        Optional; call it if tasks will surely come.
        """
        ...

    def has_slot(self, device: str) -> bool:
        """Returns whether a task whose trial names this `device` would start at once."""
        ...

    def submit(self, task: TrainingTask) -> None: ...

    def next(self, timeout: float | None = None) -> Event | None:
        """Returns the next event, or None if there is none within `timeout` seconds or nothing
        trains."""
        ...

    def cancel(self, key: str) -> None:
        """Stops the trial with this key at its next record, or at the end of its stack's epoch.

        Its `Ended` says interrupted, unless it ends by itself before that. The others of its stack
        train on. Nothing happens if the trial has ended.
        """
        ...

    def request_stop(self) -> bool:
        """Asks what trains in this process to write a checkpoint and end. Returns whether it will
        do so soon. Safe in a signal handler."""
        ...

    def close(self) -> None:
        """Stops all training and frees its resources. May be called twice.

        Workers first write a checkpoint of their trial, if that takes a few seconds at most.
        """
        ...
