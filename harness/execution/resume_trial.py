"""A trial with checkpoints: begins where the last sound one was taken, and keeps new ones."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from harness.core.records import BatchLosses, Ended, Measured, Record, Started
from harness.execution.checkpoint_folder import CheckpointWriteError
from harness.execution.executors.base import Task
from harness.execution.experiment_checkpoints import Checkpoints, Found, TrialFolder
from harness.execution.metadata import changes, circumstances
from harness.execution.stopping import TOLD_TO_STOP, stoppable
from harness.training.checkpoint import (
    Checkpoint,
    CheckpointPolicy,
    ResumePoint,
    UnusableCheckpoint,
    restore,
)
from harness.training.loop import train
from harness.training.setup import TrainingSetup, set_up

_logger = logging.getLogger(__name__)


def train_with_checkpoints(task: Task, device: torch.device | None) -> Iterator[Record]:
    """A task's records, all from the first on, whatever of them was trained before.

    `Started.facts` says where it was resumed and how often, what it continues, or why it began
    anew. Where it is told to stop (`stopping`), it ends as interrupted with its checkpoint kept.
    A task without a place for checkpoints has none. Raises CheckpointWriteError
    where one cannot be written.
    """
    if task.checkpoints is None:
        found = train(set_up(task.trial, task.data_root, device), task.test_outputs)
        yield from (item for item in found if not isinstance(item, Checkpoint))
        return
    policy = CheckpointPolicy(task.checkpoints.every)
    keeper = _Keeper(task, task.checkpoints)
    parts, resumed = keeper.begin(device)
    with stoppable(policy):
        for item in train(parts, task.test_outputs, policy, resumed):
            match item:
                case Checkpoint():
                    try:
                        policy.record_write(keeper.keep(item))
                    except CheckpointWriteError as reason:
                        if not policy.stop_requested:
                            raise
                        _logger.warning("%s", reason)  # It is interrupted, and no failure.
                    if policy.stop_requested:
                        yield TOLD_TO_STOP
                        return
                case Started():
                    yield Started({**item.metadata, **keeper.metadata})
                    yield from keeper.history
                case Measured() | BatchLosses():
                    keeper.history.append(item)
                    if not policy.stop_requested:  # Who asked may listen no more.
                        yield item
                case Ended():
                    yield item


class _Keeper:
    """What a trial's checkpoints need beyond its training. history: what it measured so far.
    facts: how it began."""

    def __init__(self, task: Task, checkpoints: Checkpoints) -> None:
        self._task = task
        self._continues = checkpoints.continues
        self._folder = TrialFolder(checkpoints.folders[task.key])
        self._stored: dict[str, Any] = {}
        self.history: list[Record] = []
        self.metadata: dict[str, Any] = {}

    def begin(self, device: torch.device | None) -> tuple[TrainingSetup, ResumePoint | None]:
        trial, root = self._task.trial, self._task.data_root
        parts = set_up(trial, root, device)
        for found in self._folder.sound(trial, self._continues):
            try:
                resumed = restore(parts, found.state)
            except UnusableCheckpoint as reason:
                self._folder.set_aside(found.path, str(reason))
                parts = set_up(trial, root, device)
                continue
            self.history = list(found.history)
            self._resumed(found, parts)
            return parts, resumed
        self.metadata |= self._folder.restarted()
        if not self.metadata and self._continues and (why := self._folder.refusal(trial)):
            self.metadata["not_continued"] = why
        self._stored = circumstances(parts.metadata())
        return parts, None

    def keep(self, checkpoint: Checkpoint) -> float:
        """Write a checkpoint. Returns the seconds it took. Raises CheckpointWriteError."""
        began = time.monotonic()
        self._folder.save(checkpoint, self.history, self._stored)
        return time.monotonic() - began

    def _resumed(self, found: Found, parts: TrainingSetup) -> None:
        before, now = found.metadata, circumstances(parts.metadata())
        self._stored = {**now, "times": int(before.get("times", 0)), **_continued(before)}
        if found.continued is not None:
            self._stored["continued_from"] = found.continued
        else:
            self._stored["times"] += 1
            self.metadata["resumed_after"] = str(found.position)
        self.metadata |= _continued(self._stored)
        if self._stored["times"]:
            self.metadata["resumed"] = self._stored["times"]
        self.metadata |= changes(before, now)


def _continued(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {name: metadata[name] for name in ("continued_from",) if name in metadata}
