"""Trains the trials of a task with checkpoints: resumes from the latest, and writes new ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from math import inf
from typing import Any, Final

import torch

from harness.core.errors import HarnessError
from harness.core.records import Ended, Outcome, Record, Started
from harness.execution.checkpoint_folder import (
    OWN_FOLDER,
    CheckpointFolder,
    CheckpointWriteError,
    LoadedCheckpoint,
    TrainingLog,
)
from harness.execution.executors.base import TOLD_TO_STOP, Event, TrainingTask, stoppable
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, UnusableCheckpoint, restore
from harness.training.device import resolve
from harness.training.loop import train
from harness.training.own_loop import OwnLoop, run_own_loop
from harness.training.setup import TrainingSetup
from harness.training.stacked.loop import train_stack
from harness.training.stacked.stack import Stack

DECIDE_ROUNDING: Final = ("torch", "threads", "device_name")
"""What decides how numbers are rounded, beside the trial itself."""

BuildStack = Callable[[], tuple[Stack, Mapping[str, Any]]]
"""Returns a stack, with metadata of its start."""
Items = Iterator[tuple[str, Record] | Checkpoint]
_logger = logging.getLogger(__name__)


def train_with_checkpoints(
    task: TrainingTask,
    cancelled: Collection[str] = frozenset(),
    build_stack: BuildStack | None = None,
) -> Iterator[Event]:
    """Trains a lone trial, or several as a stack. Yields all records of the task's trials from the
    first on, however much of them was trained before.

    A stack resumes whole, with the trials too that are no longer asked for; their records are not
    yielded, and training stops when the last of the others has ended. `Started.metadata` says
    where training was resumed and how often, what it continues, or why it started again. When
    training is asked to stop (`stopping`), it writes a checkpoint, and the last event says so. A
    task without `checkpoints` writes none.

    cancelled: ids of a stack's trials that are no longer wanted; it may grow.
    build_stack: builds the task's stack, if it trains from the beginning, and returns it with
    more of that metadata; what it raises goes through. Required for a stack.
    Raises what the training loops do, and CheckpointWriteError.
    """
    folder = task.checkpoint_folder
    policy = CheckpointPolicy(task.checkpoints.every if task.checkpoints and folder else inf)
    checkpointer = _Checkpointer(task, folder, policy, cancelled, build_stack)
    wanted = set(task.trials)
    items = checkpointer.start()
    with stoppable(policy) if folder else nullcontext():
        for item in items:
            if isinstance(item, Checkpoint):
                checkpointer.write(item)
                if policy.stop_requested:
                    break
                continue
            for event in checkpointer.log_record(*item):
                # A parent that asked to stop may no longer read its pipe.
                if event.key in wanted and not policy.stop_requested:
                    yield event
                    if isinstance(event.record, Ended):
                        wanted.discard(event.key)
            if not wanted:
                return
    if policy.stop_requested:
        yield Event(task.key, TOLD_TO_STOP)


@dataclass
class _Checkpointer:
    """Writes the checkpoints of a task's training and resumes it from them.

    folder: None if no checkpoint is written. A lone trial is treated as a stack of one.
    cancelled, build_stack: as for `train_with_checkpoints`.
    """

    task: TrainingTask
    folder: CheckpointFolder | None
    policy: CheckpointPolicy
    cancelled: Collection[str]
    build_stack: BuildStack | None
    _loaded: LoadedCheckpoint | None = None
    _unreported: dict[str, Ended] = field(default_factory=dict)
    _start_metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        task = self.task
        self._device = torch.device(task.device) if task.device else None
        self._is_stack = task.is_stack
        may_continue = task.checkpoints is not None and task.checkpoints.continues
        self._continued_trial = task.trial if may_continue and not self._is_stack else None
        self._log = TrainingLog(task.trials)

    def start(self) -> Items:
        """Returns the items of training, resumed from the latest checkpoint that can be used, or
        from the beginning."""
        if self.folder is not None:
            for loaded in self.folder.load(self.task.key, self._continued_trial):
                try:
                    trials = self._trials_of(loaded)
                    if self._is_stack:
                        items = self._resume_stack(trials, loaded.state)
                    else:
                        items = self._train_alone(loaded.state)
                except UnusableCheckpoint as reason:
                    self.folder.set_aside(loaded.path, str(reason))
                    continue
                self._resume(loaded, trials)
                return items
            self.folder.forget_waiting_trials()
            self._start_metadata |= self._why_from_the_beginning(self.folder)
        if self.build_stack is None:
            return self._train_alone()
        stack, metadata = self.build_stack()
        self._start_metadata |= metadata
        return train_stack(stack, self.task.test_outputs, self.cancelled, self.policy)

    def _why_from_the_beginning(self, folder: CheckpointFolder) -> dict[str, str]:
        if damaged := "; ".join(folder.damaged):
            return {"restarted": f"none of its checkpoints could be used: {damaged}"}
        why = folder.why_not_continued(self._continued_trial) if self._continued_trial else ""
        return {"not_continued": why} if why else {}

    def log_record(self, trial_id: str, record: Record) -> Iterator[Event]:
        """Remembers a record for the next checkpoint. Yields it, and after a trial's start what the
        trial measured before."""
        history = self._log.history.setdefault(trial_id, [])
        match record:
            case Started():
                if not self._log.metadata:
                    self._describe_start(record.metadata)
                yield from self._unreported_ends(record.metadata)
                yield Event(trial_id, Started({**record.metadata, **self._start_metadata}))
                yield from (Event(trial_id, past) for past in history)
            case Ended():
                self._log.ended[trial_id] = replace(record, final={}, test_outputs=None)
                yield Event(trial_id, record)
            case _:
                history.append(record)
                yield Event(trial_id, record)

    def write(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint. Raises CheckpointWriteError, unless training was asked to stop: then
        it is interrupted and has not failed."""
        if self.folder is None:
            return
        began = time.monotonic()
        try:
            self.folder.write(checkpoint, self._log)
        except CheckpointWriteError as error:
            if not self.policy.stop_requested:
                raise
            _logger.warning("%s", error)
        self.policy.record_write(time.monotonic() - began)

    def _train_alone(self, state: Mapping[str, Any] | None = None) -> Items:
        task = self.task
        if task.trial.has_own_loop:
            items = self._run_own_loop(state)
        else:
            planned = task.fingerprint
            setup = TrainingSetup(task.trial, task.data_root, self._device, planned=planned)
            resumed = None if state is None else restore(setup, state)
            items = train(setup, task.test_outputs, self.policy, resumed)
        key = task.key
        return (item if isinstance(item, Checkpoint) else (key, item) for item in items)

    def _run_own_loop(self, state: Mapping[str, Any] | None) -> Iterator[Record | Checkpoint]:
        task = self.task
        folder = None if self.folder is None else self.folder.path / OWN_FOLDER
        context = OwnLoop(task.trial, task.data_root, self._device, task.fingerprint, folder)
        if state is not None:
            context.restore(state)
        return run_own_loop(context, self.policy, task.metric)

    def _resume_stack(self, trials: Mapping[str, Trial], state: Mapping[str, Any]) -> Items:
        task = self.task
        device = self._device or resolve(task.trial.device)
        try:
            all_trials = tuple(trials.items())
            stack = Stack(all_trials, task.data_root, device, planned=task.fingerprint)
            resumed = restore(stack, state)
        except ValueError as error:
            raise UnusableCheckpoint(str(error)) from error
        return train_stack(stack, task.test_outputs, self.cancelled, self.policy, resumed)

    def _trials_of(self, loaded: LoadedCheckpoint) -> Mapping[str, Trial]:
        """Returns all the trials that training began with. Raises UnusableCheckpoint if the task
        asks for others, or for one that had been cancelled and has measured no further."""
        if not self._is_stack:
            return self._log.trials
        own = self.task.trials
        cut = {key for key, end in loaded.ended.items() if end.outcome is not Outcome.DIVERGED}
        if not own.keys() <= loaded.trials.keys() - cut:
            raise UnusableCheckpoint("it is of other trials")
        try:
            return {key: own.get(key) or Trial.of(one) for key, one in loaded.trials.items()}
        except (HarnessError, KeyError, TypeError, ValueError) as error:
            raise UnusableCheckpoint(f"it has a trial that is not known here: {error}") from error

    def _resume(self, loaded: LoadedCheckpoint, trials: Mapping[str, Trial]) -> None:
        self._log = TrainingLog(trials, loaded.history, loaded.ended)
        self._loaded = loaded
        self._unreported = dict(loaded.ended)
        if loaded.continued_from is None:
            self._start_metadata["resumed_after"] = str(loaded.position)

    def _describe_start(self, metadata: Mapping[str, Any]) -> None:
        """Notes where training runs, how often it was resumed, and whether it ran elsewhere before.

        metadata: of any trial's start, which a stack's trials share.
        """
        environment = {"torch": torch.__version__, **metadata}
        here = {name: str(environment[name]) for name in DECIDE_ROUNDING}
        self._log.metadata = {**here, "times": 0}
        if (loaded := self._loaded) is None:
            return
        before = loaded.metadata
        times = int(before.get("times", 0)) + (loaded.continued_from is None)
        self._log.metadata["times"] = times
        if times:
            self._start_metadata["resumed"] = times
        continued_from = loaded.continued_from or before.get("continued_from")
        if continued_from is not None:
            self._log.metadata["continued_from"] = continued_from
            self._start_metadata["continued_from"] = continued_from
        changes = [
            f"{name}: {before.get(name)}, now {here[name]}"
            for name in DECIDE_ROUNDING
            if before.get(name) != here[name]
        ]
        if changes:
            self._start_metadata["resumed_elsewhere"] = "; ".join(changes)

    def _unreported_ends(self, metadata: Mapping[str, Any]) -> Iterator[Event]:
        """Yields all records of the trials that had ended before the checkpoint: the result of one
        that is still asked for is not in the store.

        metadata: of any trial's start, which a stack's trials share.
        """
        unreported, self._unreported = self._unreported, {}
        for trial_id, ended in unreported.items():
            yield Event(trial_id, Started({**metadata, **self._start_metadata}))
            yield from (Event(trial_id, past) for past in self._log.history[trial_id])
            yield Event(trial_id, ended)
