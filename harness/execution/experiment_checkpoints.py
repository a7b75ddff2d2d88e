"""The checkpoints of an experiment: a folder for each trial, and one for each stack.

An experiment's folder has one folder for each *lineage* (trials that differ in `epochs` alone), and
in it one for each trial. When a trial is done, `finish` keeps its last checkpoint as `*.final`, so
that a longer trial of its lineage can continue from it. Stacks lie below `stacks/`.
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from harness.execution.checkpoint_folder import (
    TRIAL_MARK,
    CheckpointFolder,
    why_not_continuable,
)
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial, make_lineage_id

FINAL_BYTES: Final = 4 << 30
"""Limit for the last checkpoints of an experiment's finished trials; the oldest are deleted
first."""

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TaskCheckpoints:
    """Where the trials of a task keep their checkpoints, and when.

    folders: of the trials that train alone, by trial id. every: seconds between two checkpoints,
    None for the default. continues: whether a trial may continue from a shorter one that is done.
    stack: the folder of the stack as which the trials train; None for a trial that trains alone.
    """

    folders: Mapping[str, Path]
    every: float | None = None
    continues: bool = True
    stack: Path | None = None

    def restart_with(self, trial_ids: Collection[str]) -> TaskCheckpoints:
        """Returns the same for some of the trials, which start again by themselves."""
        if self.stack is None or len(trial_ids) == 1:
            return replace(self, stack=None)
        return replace(self, stack=_stack_folder(self.stack.parent, trial_ids))


@dataclass(frozen=True, slots=True)
class InterruptedStack:
    """Trials whose stack was interrupted and left a checkpoint in a folder."""

    trials: tuple[PlannedTrial, ...]
    folder: Path


@dataclass(frozen=True, slots=True)
class ExperimentCheckpoints:
    """An experiment's folder of checkpoints.

    every: as in `TaskCheckpoints`. fresh: trials start again, whatever checkpoints there are.
    """

    folder: Path
    every: float | None = None
    fresh: bool = False

    @property
    def stacks_folder(self) -> Path:
        return self.folder / "stacks"

    def trial_folder(self, planned: PlannedTrial) -> Path:
        """Returns where a trial keeps its checkpoints if it trains alone."""
        shared = make_lineage_id(planned.trial.identity(), planned.fingerprint)
        return self.folder / shared / planned.trial_id

    def for_task(
        self, trials: Sequence[PlannedTrial], stack: Path | None = None
    ) -> TaskCheckpoints:
        """Returns where the trials of a task that is about to start keep their checkpoints.

        stack: the folder of the interrupted stack that they resume; without it, several trials
        are a new stack.
        """
        folders = {planned.trial_id: self.trial_folder(planned) for planned in trials}
        if self.fresh:
            for trial_id, folder in folders.items():
                shutil.rmtree(folder, ignore_errors=True)
                self._leave_stacks(trial_id)
        if stack is None and len(trials) > 1:
            stack = _stack_folder(self.stacks_folder, folders)
        return TaskCheckpoints(folders, self.every, continues=not self.fresh, stack=stack)

    def interrupted_stacks(self, trials: Sequence[PlannedTrial]) -> list[InterruptedStack]:
        """Returns the stacks of these trials that left a checkpoint; the latest stack of each
        trial."""
        if self.fresh:
            return []
        folders = [CheckpointFolder(path) for path in self.stacks_folder.glob("*")]
        written = [(folder.latest_write(), folder.path, folder) for folder in folders]
        remaining = {planned.trial_id: planned for planned in trials} if written else {}
        stacks = []
        for seconds, path, folder in sorted(written, key=lambda item: item[:2], reverse=True):
            waiting = folder.waiting_trials() if seconds else set()
            resumable = tuple(planned for key, planned in remaining.items() if key in waiting)
            if resumable:
                stacks.append(InterruptedStack(resumable, path))
                remaining = {key: one for key, one in remaining.items() if key not in waiting}
        return stacks

    def finish(self, planned: PlannedTrial, done: bool) -> None:
        """A trial's result is stored: its stack no longer waits for it, and its folder is cleared.

        done: whether it trained to its end.
        """
        self._leave_stacks(planned.trial_id)
        self.clear(self.trial_folder(planned), planned.trial, done)

    def clear(self, folder: Path, trial: Trial, done: bool) -> None:
        """Keeps a finished trial's last checkpoint where a longer trial may continue from it, and
        deletes the others. A trial that was too short to have a checkpoint leaves nothing."""
        if not folder.is_dir():
            return
        try:
            _keep_final(folder, trial, done)
            self._limit_finals()
        except OSError as error:  # It costs space on the disk, and no result.
            _logger.warning("checkpoints in %s stay as they are: %s", folder, error)

    def delete(self, planned: PlannedTrial) -> None:
        """Deletes the checkpoints of a trial that nobody will resume or continue."""
        CheckpointFolder(self.trial_folder(planned)).delete()
        self._leave_stacks(planned.trial_id)

    def release_finished(self, trial_ids: Container[str]) -> None:
        """No stack waits for these trials, whose results are stored. This is needed if a process
        was killed between storing a result and calling `finish`."""
        for mark in self.stacks_folder.glob(f"*/*{TRIAL_MARK}"):
            if mark.stem in trial_ids:
                self._leave_stacks(mark.stem)

    def _leave_stacks(self, trial_id: str) -> None:
        """No stack waits for this trial. A stack that waits for none is deleted."""
        for mark in self.stacks_folder.glob(f"*/{trial_id}{TRIAL_MARK}"):
            mark.unlink(missing_ok=True)
            folder = CheckpointFolder(mark.parent)
            if not folder.waiting_trials():
                folder.delete()

    def _limit_finals(self) -> None:
        finals = [(path.stat(), path) for path in self.folder.glob("*/*/*.final")]
        total = sum(stat.st_size for stat, _ in finals)
        for stat, path in sorted(finals, key=lambda pair: pair[0].st_mtime):
            if total <= FINAL_BYTES:
                return
            total -= stat.st_size
            CheckpointFolder(path.parent).delete()


def _stack_folder(stacks_folder: Path, trial_ids: Collection[str]) -> Path:
    """Returns where a stack of these trials, in any order, keeps its checkpoints."""
    return stacks_folder / hashlib.sha256(" ".join(sorted(trial_ids)).encode()).hexdigest()[:16]


def _keep_final(folder: Path, trial: Trial, done: bool) -> None:
    last = folder / f"{trial.epochs:06d}-{0:09d}.pt"
    final = folder / f"{trial.epochs:06d}.final"
    newest = final if final.is_file() else last if last.is_file() else None
    if not done or newest is None or trial.has_own_loop:
        CheckpointFolder(folder).delete()
        return
    if why_not_continuable(trial, trial.epochs) is None:
        newest.replace(final)
    else:
        final = final.with_suffix(".done")  # So that a longer trial can say why it starts again.
        final.touch()
    for path in folder.iterdir():
        if path != final:
            path.unlink(missing_ok=True)
