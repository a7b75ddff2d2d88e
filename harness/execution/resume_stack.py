"""A stack with checkpoints: begins where the last sound one was taken, and keeps new ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from math import inf
from typing import Any

import torch

from harness.core.errors import HarnessError
from harness.core.records import Ended, Outcome, Record, Started
from harness.execution.checkpoint_folder import CheckpointWriteError
from harness.execution.executors.base import Event, Task
from harness.execution.metadata import changes, circumstances
from harness.execution.stack_folders import FoundStack, StackFolder, Story
from harness.execution.stopping import TOLD_TO_STOP, stoppable
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, UnusableCheckpoint
from harness.training.stacked import loop

Trials = tuple[tuple[str, Trial], ...]

_logger = logging.getLogger(__name__)


def train_with_checkpoints(
    task: Task,
    device: torch.device,
    cancelled: Collection[str],
    anew: Callable[[], Mapping[str, Any]],
) -> Iterator[Event]:
    """The records of a task's trials as one stack, all from the first on, whatever of them was
    trained before.

    The stack goes on whole, with the trials too that are no longer asked for: their records are not
    handed on, and it stops with the last that is. `Started.facts` says where it was resumed and how
    often, or why it began anew. Where it is told to stop (`stopping`), one trial's record says so
    for all, with a checkpoint kept. A task without a place for checkpoints has none.

    anew: called before a stack begins anew; what it returns is added to those facts, what it raises
    goes through. Raises what `fused.loop` does, and CheckpointWriteError.
    """
    stack = task.checkpoints.stack if task.checkpoints else None
    keeper = _Keeper(task, StackFolder(stack) if stack else None)
    policy = CheckpointPolicy(task.checkpoints.every if task.checkpoints and stack else inf)
    wanted = {key for key, _ in task.trials}
    items = keeper.begin(device, cancelled, policy, anew)
    with stoppable(policy) if stack else nullcontext():
        for item in items:
            if isinstance(item, Checkpoint):
                keeper.keep(item, policy)
                if policy.stop_requested:
                    break
                continue
            for key, record in keeper.take(*item):
                if key in wanted and not policy.stop_requested:  # Who asked may listen no more.
                    yield Event(key, record)
                    if isinstance(record, Ended):
                        wanted.discard(key)
            if not wanted:
                return
    if policy.stop_requested:
        yield Event(task.key, TOLD_TO_STOP)


class _Keeper:
    """What a stack's checkpoints need beyond its training. folder: None where nothing is kept.
    facts: how it began."""

    def __init__(self, task: Task, folder: StackFolder | None) -> None:
        self._task = task
        self._folder = folder
        self._story = Story(task.trials, {}, {}, {})
        self._untold: dict[str, Ended] = {}
        self._before: Mapping[str, Any] | None = None
        self.metadata: dict[str, Any] = {}

    def begin(
        self,
        device: torch.device,
        cancelled: Collection[str],
        policy: CheckpointPolicy,
        anew: Callable[[], Mapping[str, Any]],
    ) -> Iterator[loop.KeyedRecord | Checkpoint]:
        """The stack's training, where it was or from its beginning."""
        root, test_outputs = self._task.data_root, self._task.test_outputs
        if self._folder is not None:
            for found in self._folder.sound():
                try:
                    trials = _trials(self._task, found)
                    items = loop.train_with_checkpoints(
                        trials, root, device, test_outputs, cancelled, policy, found.state
                    )
                except (UnusableCheckpoint, ValueError) as reason:
                    self._folder.set_aside(found.path, str(reason))
                    continue
                self._go_on(trials, found)
                return items
            self._folder.begin_anew()
            self.metadata |= self._folder.restarted()
        self.metadata |= anew()
        return loop.train_with_checkpoints(
            self._task.trials, root, device, test_outputs, cancelled, policy
        )

    def take(self, key: str, record: Record) -> Iterator[tuple[str, Record]]:
        """Remember a record. Yields it, and with its start what the trial measured before."""
        history = self._story.history.setdefault(key, [])
        match record:
            case Started():
                if not self._story.metadata:
                    self._note(record.metadata)
                yield from self._told(record.metadata)
                yield key, Started({**record.metadata, **self.metadata})
                yield from ((key, one) for one in history)
            case Ended():
                self._story.ended[key] = replace(record, final={}, test_outputs=None)
                yield key, record
            case _:
                history.append(record)
                yield key, record

    def keep(self, checkpoint: Checkpoint, policy: CheckpointPolicy) -> None:
        """Write a checkpoint. Raises CheckpointWriteError; a stack that was asked to stop does so
        without, as it is interrupted and has not failed."""
        if self._folder is None:
            return
        began = time.monotonic()
        try:
            self._folder.save(checkpoint, self._story)
        except CheckpointWriteError as reason:
            if not policy.stop_requested:
                raise
            _logger.warning("%s", reason)
        policy.record_write(time.monotonic() - began)

    def _go_on(self, trials: Trials, found: FoundStack) -> None:
        history = {key: list(records) for key, records in found.history.items()}
        self._story = Story(trials, history, dict(found.ended), {})
        self._untold = dict(found.ended)
        self._before = found.metadata
        self.metadata["resumed_after"] = str(found.position)

    def _note(self, metadata: Mapping[str, Any]) -> None:
        """What the stack says of itself, and whether it trained elsewhere before."""
        now, times = circumstances(metadata), 0
        if self._before is not None:
            times = int(self._before["times"]) + 1
            self.metadata |= {"resumed": times, **changes(self._before, now)}
        self._story.metadata = {**now, "times": times}

    def _told(self, metadata: Mapping[str, Any]) -> Iterator[tuple[str, Record]]:
        """The trials that had ended before the checkpoint: of one that is still asked for the end
        is not in the store. facts: of any trial's start, which they share."""
        untold, self._untold = self._untold, {}
        for key, ended in untold.items():
            yield key, Started({**metadata, **self.metadata})
            yield from ((key, one) for one in self._story.history[key])
            yield key, ended


def _trials(task: Task, found: FoundStack) -> Trials:
    """All the trials that a stack began with. Raises UnusableCheckpoint where the task asks for
    others, or for one that had been cancelled and measured no further."""
    own = dict(task.trials)
    cut = {key for key, end in found.ended.items() if end.outcome is not Outcome.DIVERGED}
    if not own.keys() <= found.trials.keys() - cut:
        raise UnusableCheckpoint("it is of other trials")
    try:
        return tuple((key, own.get(key) or Trial.of(one)) for key, one in found.trials.items())
    except (HarnessError, KeyError, TypeError, ValueError) as error:
        raise UnusableCheckpoint(f"a trial of it is not known here: {error}") from error
