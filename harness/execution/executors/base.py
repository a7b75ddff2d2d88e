"""The protocol between a sweep and whatever trains its trials."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from harness.core.records import Record
from harness.execution.checkpoint_folder import Position
from harness.execution.experiment_checkpoints import Checkpoints, TrialFolder
from harness.execution.stack_folders import StackFolder
from harness.experiment.trial import Trial


@dataclass(frozen=True, slots=True)
class Task:
    """One trial to train, or several as one stack.

    key: its trial id. evidence: whether `Ended` carries weights. others: trials that train with it
    as one stack, with their keys; Ray's engine takes none.
    speedup_file: a file of gains measured before, where it is to be seen
    first if the stack is faster than one by one. checkpoints: where they
    are kept; without, an interrupted trial begins anew.
    Set by the engine: device, where it placed the task (None leaves it to the trial's own field);
    exclusive, whether no other task trains on its device at the same time, so that its times can
    be compared.
    """

    key: str
    trial: Trial
    data_root: Path
    test_outputs: bool
    exclusive: bool = False
    device: str | None = None
    others: tuple[tuple[str, Trial], ...] = ()
    speedup_file: Path | None = None
    checkpoints: Checkpoints | None = None

    @property
    def trials(self) -> tuple[tuple[str, Trial], ...]:
        """All of its trials, with their keys."""
        return ((self.key, self.trial), *self.others)

    def without(self, key: str) -> Task | None:
        """The task with one trial less; None where none is left."""
        left = {one for one, _ in self.trials if one != key}
        return self.only(left) if left else None

    def only(self, keys: Collection[str]) -> Task:
        """The task with some of its trials, at least one, which go on where all would have."""
        (key, trial), *others = (pair for pair in self.trials if pair[0] in keys)
        return replace(self, key=key, trial=trial, others=tuple(others))

    @property
    def is_stack(self) -> bool:
        """Whether it trains as a stack: one that goes on may have a single trial left."""
        return bool(self.others) or self._stack_reached is not None

    def of(self, trials: Sequence[tuple[str, Trial]]) -> Task:
        """The task with some of its trials, which begin anew."""
        keys = [key for key, _ in trials]
        kept = self.checkpoints.of(keys) if self.checkpoints else None
        return replace(self.only(keys), checkpoints=kept)

    @property
    def reached(self) -> Position | None:
        """The furthest checkpoint of the trial, or of the stack; None where there is none."""
        if self.is_stack:
            return self._stack_reached
        if self.checkpoints is None:
            return None
        return TrialFolder(self.checkpoints.folders[self.key]).reached()

    @property
    def _stack_reached(self) -> Position | None:
        if self.checkpoints is None or self.checkpoints.stack is None:
            return None
        return StackFolder(self.checkpoints.stack).reached()


@dataclass(frozen=True, slots=True)
class Event:
    """A record of the trial with this key. A trial's last event holds an `Ended`."""

    key: str
    record: Record

    def __reduce__(self) -> tuple[Any, ...]:
        """As `Measured`'s."""
        return Event, (self.key, self.record)


class Executor(Protocol):
    """Trains tasks and hands back their records.

    Events of one trial come in the order they were yielded; those of different trials may
    interleave. Every submitted trial ends with exactly one `Ended`, also when its part of the
    machine dies, unless the engine is closed first. An exception of a trial never leaves the
    engine: it is an `Ended` with the outcome failed. Not thread-safe: one caller.
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
        """Where tasks train, for people: "2 workers, 1 thread each"."""
        ...

    def prepare(self) -> None:
        """Begin with what takes time before the first task can start, where that can go on beside
        this process. To be called where tasks will surely come; may be left out."""
        ...

    def has_slot(self, device: str) -> bool:
        """Whether a task of this `device` would start at once."""
        ...

    def submit(self, task: Task) -> None: ...

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None where nothing came within `timeout` seconds or nothing is left."""
        ...

    def cancel(self, key: str) -> None:
        """Stop the trial of this key at its next record, or at the end of its stack's epoch; its
        `Ended` says interrupted, unless it ends by itself before that. The others of its stack go
        on. Nothing happens where it has ended."""
        ...

    def request_stop(self) -> bool:
        """Ask what trains in this process to keep a checkpoint and end, soon; whether it will.
        Safe in a signal handler."""
        ...

    def close(self) -> None:
        """Stop everything and free what is held; workers first keep a checkpoint of what they
        train, where that takes a few seconds at most. May be called twice."""
        ...
