"""What every executor takes, hands back and promises."""

from __future__ import annotations

import pickle
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from harness.core.records import Ended, Outcome, Record
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.experiment_checkpoints import TaskCheckpoints
from harness.experiment.trial import NO_FINGERPRINT, Fingerprint, Trial

if TYPE_CHECKING:
    from harness.training.checkpoint import CheckpointPolicy

CANCELLED: Final = Ended(Outcome.INTERRUPTED, {}, "cancelled")
"""The last record of a trial that is no longer wanted."""
TOLD_TO_STOP: Final = Ended(Outcome.INTERRUPTED, {}, "told to stop")
"""The last record of a trial that was asked to stop and has written a checkpoint."""


class _SentTrials(Mapping[str, Trial]):
    """Trials from another process, unpickled when they are first asked for: an error in the code
    that they come from is then an error of their task, and not of the worker."""

    def __init__(self, keys: tuple[str, ...], pickled: bytes) -> None:
        self._keys, self._pickled = keys, pickled
        self._trials: dict[str, Trial] | None = None

    def __getitem__(self, key: str) -> Trial:
        if self._trials is None:
            self._trials = pickle.loads(self._pickled)  # noqa: S301 - the parent has sent it
        return self._trials[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __reduce__(self) -> tuple[Any, ...]:
        return _SentTrials, (self._keys, self._pickled)


@dataclass(frozen=True, slots=True)
class TrainingTask:
    """One trial to train, or several to train as one stack.

    trials: by id; with Ray a single one. test_outputs: whether `Ended` carries weights and test
    outputs. speedup_file: a file of measured speedups, if the executor is to measure first whether
    the stack is faster than its trials one by one. checkpoints: where the trials keep them;
    without, an interrupted trial starts again. fingerprint: of what they were planned on; trials
    that find other data or weights fail. metric: what trials are selected on, which a training loop
    of a user's own must yield.

    The executor sets `device`, the device slot that it chose (None leaves the choice to the trial's
    own field), and `exclusive`, whether no other task trains on that device at the same time, so
    that its times can be compared.
    """

    trials: Mapping[str, Trial]
    data_root: Path
    test_outputs: bool
    exclusive: bool = False
    device: str | None = None
    speedup_file: Path | None = None
    checkpoints: TaskCheckpoints | None = None
    fingerprint: Fingerprint = NO_FINGERPRINT
    metric: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        sent = self.trials
        if not isinstance(sent, _SentTrials):
            sent = _SentTrials(tuple(sent), pickle.dumps(dict(sent), pickle.HIGHEST_PROTOCOL))
        others = [getattr(self, f.name) for f in fields(self) if f.name != "trials"]
        return TrainingTask, (sent, *others)

    @property
    def key(self) -> str:
        """The id of its first trial."""
        return next(iter(self.trials))

    @property
    def trial(self) -> Trial:
        """Its first trial."""
        return self.trials[self.key]

    @property
    def is_stack(self) -> bool:
        """Whether it trains as a stack: one that resumes may have a single trial left."""
        if len(self.trials) > 1 or self.checkpoints is None or self.checkpoints.stack is None:
            return len(self.trials) > 1
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

    def only(self, keys: Collection[str]) -> TrainingTask:
        """Returns the task with some of its trials, which resume where all would have."""
        trials = {key: trial for key, trial in self.trials.items() if key in keys}
        return replace(self, trials=trials)

    def restart_with(self, keys: Collection[str]) -> TrainingTask:
        """Returns the task with some of its trials, which start again."""
        checkpoints = self.checkpoints and self.checkpoints.restart_with(keys)
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

    @property
    def is_local(self) -> bool:
        """Whether tasks train in this process, while `next` is called."""

    @property
    def description(self) -> str:
        """Where tasks train, for the user: "2 workers, 1 thread each"."""

    def prepare(self) -> None:
        """Starts what takes time before the first task can train, beside this process if possible.

        Optional; call it if tasks will surely come.
        """

    def has_slot(self, device: str) -> bool:
        """Returns whether a task whose trial names this `device` would start at once."""

    def submit(self, task: TrainingTask) -> None:
        """Starts a task, for which there must be a slot."""

    def next(self, timeout: float | None = None) -> Event | None:
        """Returns the next event, or None if there is none within `timeout` seconds or nothing
        trains."""

    def cancel(self, key: str) -> None:
        """Stops the trial with this key at its next record, or at the end of its stack's epoch.

        Its `Ended` says interrupted, unless it ends by itself before that. The others of its stack
        train on. Nothing happens if the trial has ended.
        """

    def request_stop(self) -> bool:
        """Asks what trains in this process to write a checkpoint and end. Returns whether it will
        do so soon. Safe in a signal handler."""

    def close(self) -> None:
        """Stops all training and frees its resources. May be called twice.

        Workers first write a checkpoint of their trial, if that takes a few seconds at most.
        """


_policy: CheckpointPolicy | None = None


@contextmanager
def stoppable(policy: CheckpointPolicy) -> Iterator[None]:
    """While entered, `request_stop` asks this policy."""
    global _policy
    _policy = policy
    try:
        yield
    finally:
        if _policy is policy:
            _policy = None


def stop_requested() -> bool:
    """Whether what trains in this process was asked to stop."""
    return _policy is not None and _policy.stop_requested


def request_stop() -> bool:
    """Asks what trains in this process for a checkpoint, after which the trial ends as interrupted.

    Returns False, and asks nothing, if no trial here writes checkpoints or none can be written
    soon, because data is loading or a long evaluation runs; the trial then resumes from its last
    checkpoint. Safe in a signal handler.
    """
    if _policy is None or not _policy.can_stop_soon:
        return False
    _policy.stop_requested = True
    return True
