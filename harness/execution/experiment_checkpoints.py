"""Where checkpoints lie: a folder a trial, the last two in it, whole or not there.

An experiment's folder has one for each *lineage* (trials that differ in `epochs` alone) and in it
one for each trial. Of a trial that is done, `settle` keeps the last checkpoint as `*.final`, for a
longer trial of its lineage to go on from.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.core.records import Record
from harness.execution.checkpoint_folder import Folder, Position, measurement, plain, remove
from harness.execution.stack_folders import (
    InterruptedStack,
    begun_stacks,
    leave_finished,
    leave_stacks,
    stack_folder,
)
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial, make_lineage_id

if TYPE_CHECKING:
    from harness.training.checkpoint import Checkpoint

FINAL_BYTES: Final = 4 << 30
"""Room for the last checkpoints of an experiment's done trials; the oldest go first."""

_FINAL = re.compile(r"(\d{6,})\.final")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a task's trials keep theirs. folders: by trial id, of those that train alone. every:
    seconds between two, None for the default. continues: whether a trial may go on from a shorter
    one that is done. stack: the folder of the stack that they train as, or go on as; None for one
    that trains alone."""

    folders: Mapping[str, Path]
    every: float | None = None
    continues: bool = True
    stack: Path | None = None

    def of(self, keys: Sequence[str]) -> Checkpoints:
        """For some of the trials, which begin anew by themselves."""
        if self.stack is None or len(keys) == 1:
            return replace(self, stack=None)
        return replace(self, stack=stack_folder(self.stack.parent, keys))


@dataclass(frozen=True, slots=True)
class ExperimentCheckpoints:
    """An experiment's folder of checkpoints. every: as in `Checkpoints`. fresh: trials begin anew,
    whatever lies there."""

    folder: Path
    every: float | None = None
    fresh: bool = False

    def of(self, members: Sequence[PlannedTrial], stack: Path | None = None) -> Checkpoints:
        """For a task of these trials, which is about to begin. stack: the folder of one that was
        begun before (`begun`), and that they go on as; several trials without are a new stack."""
        folders = {one.trial_id: self.trial_folder(one) for one in members}
        if self.fresh:
            for key, folder in folders.items():
                shutil.rmtree(folder, ignore_errors=True)
                leave_stacks(self.stacks, key)
        if stack is None and len(members) > 1:
            stack = stack_folder(self.stacks, list(folders))
        return Checkpoints(folders, self.every, continues=not self.fresh, stack=stack)

    def interrupted_stacks(self, trials: Sequence[PlannedTrial]) -> list[InterruptedStack]:
        """Which of these trials were in stacks that left a checkpoint to go on from."""
        return [] if self.fresh else begun_stacks(self.stacks, trials)

    def trial_folder(self, planned: PlannedTrial) -> Path:
        """The folder of a trial."""
        shared = make_lineage_id(planned.trial.identity(), planned.fingerprint)
        return self.folder / shared / planned.trial_id

    def delete(self, planned: PlannedTrial) -> None:
        """A trial is over and keeps nothing."""
        remove(self.trial_folder(planned))
        leave_stacks(self.stacks, planned.trial_id)

    def finish(self, planned: PlannedTrial, done: bool) -> None:
        """A trial has ended and stands in the store: its stack no longer waits for it, and as
        `settle`. done: whether it trained to its end."""
        leave_stacks(self.stacks, planned.trial_id)
        settle(self.folder, self.trial_folder(planned), planned.trial, done)

    def release_finished(self, finished: Container[str]) -> None:
        """No stack waits for trials that stand in the store. finished: their ids."""
        leave_finished(self.stacks, finished)

    @property
    def stacks(self) -> Path:
        """The folder of all stacks'."""
        return self.folder / "stacks"


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint that is sound. history: what the trial had measured. facts: what it said of
    itself. continued: the epochs of the done trial that it is the end of, or None."""

    path: Path
    position: Position
    state: Mapping[str, Any]
    history: tuple[Record, ...]
    metadata: Mapping[str, Any]
    continued: int | None


class TrialFolder(Folder):
    """One trial's checkpoints."""

    __slots__ = ()

    def save(
        self, checkpoint: Checkpoint, history: Sequence[Record], metadata: Mapping[str, Any]
    ) -> None:
        """Write a checkpoint, and delete all but the one before.

        Raises CheckpointWriteError, and then leaves the earlier ones as they were."""
        content = {
            "state": dict(checkpoint.state),
            "history": [plain(record) for record in history],
            "facts": dict(metadata),
        }
        self.write(Position(checkpoint.epoch, checkpoint.batch), content)

    def sound(self, trial: Trial, continues: bool = True) -> Iterator[Found]:
        """What the trial can go on from, the furthest first: its own checkpoints, and the last ones
        of shorter trials of its lineage. A file that is damaged is set aside and told of."""
        shorter = {path: n for n, path in self._shorter(trial)} if continues else {}

        def made(position: Position, path: Path, content: Any) -> Found:
            history = tuple(measurement(*one) for one in content["history"])
            continued = shorter.get(path)
            return Found(path, position, content["state"], history, content["facts"], continued)

        others = [(Position(n, 0), path) for path, n in shorter.items()]
        return self.readable([*self.held(), *others], made)

    def held(self) -> Iterator[tuple[Position, Path]]:
        yield from super().held()
        for path in self.path.glob("*.final"):
            if found := _FINAL.fullmatch(path.name):
                yield Position(int(found[1]), 0), path

    def refusal(self, trial: Trial) -> str:
        """Why a done and shorter trial of this lineage, which was long enough to keep something,
        kept nothing to go on from; empty where there is none."""
        done = [int(path.stem) for path in self.path.parent.glob("*/*.done") if path.stem.isdigit()]
        shorter = [epochs for epochs in done if epochs < trial.epochs]
        return next(filter(None, (uncontinuable(trial, n) for n in sorted(shorter))), "")

    def _shorter(self, trial: Trial) -> list[tuple[int, Path]]:
        found = []
        for path in self.path.parent.glob("*/*.final"):
            match = _FINAL.fullmatch(path.name)
            if match and int(match[1]) < trial.epochs and path.parent != self.path:
                found.append((int(match[1]), path))
        return found


def uncontinuable(trial: Trial, epochs: int) -> str | None:
    """Why a trial that is like this one, but of so many epochs, cannot be continued to be one of
    more; None where it can."""
    scheduler = trial.scheduler
    if scheduler.component.needs_length(scheduler.options):
        return f"the scheduler {scheduler.label} depends on the length of the whole run"
    if epochs % trial.eval_every:
        return f"its last epoch was evaluated out of turn (eval_every: {trial.eval_every})"
    return None


def settle(room: Path, folder: Path, trial: Trial, done: bool) -> None:
    """A trial has ended and stands in the store: keep its last checkpoint where a longer trial may
    go on from it, and nothing else. done: whether it trained to its end.

    room: the experiment's folder. What was too short to leave a checkpoint leaves nothing.
    """
    if not folder.is_dir():
        return
    try:
        _settle(folder, trial, done)
        _make_room(room)
    except OSError as error:  # It costs room on the disk, and no result.
        _logger.warning("checkpoints in %s stay as they are: %s", folder, error)


def _settle(folder: Path, trial: Trial, done: bool) -> None:
    last = folder / f"{trial.epochs:06d}-{0:09d}.pt"
    final = folder / f"{trial.epochs:06d}.final"
    kept = final if final.is_file() else last if last.is_file() else None
    if not done or kept is None:
        remove(folder)
        return
    if uncontinuable(trial, trial.epochs) is None:
        kept.replace(final)
    else:
        final = final.with_suffix(".done")
        final.touch()
    for path in folder.iterdir():
        if path != final:
            path.unlink(missing_ok=True)


def _make_room(room: Path) -> None:
    held = [(path.stat(), path) for path in room.glob("*/*/*.final")]
    total = sum(stat.st_size for stat, _ in held)
    for stat, path in sorted(held, key=lambda pair: pair[0].st_mtime):
        if total <= FINAL_BYTES:
            return
        total -= stat.st_size
        remove(path.parent)
