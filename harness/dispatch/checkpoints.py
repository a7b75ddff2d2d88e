"""Where checkpoints lie: a folder a trial, the last two in it, whole or not there.

An experiment's folder has one for each *lineage* (trials that differ in `epochs` alone) and in it
one for each trial. Of a trial that is done, `settle` keeps the last checkpoint as `*.final`, for a
longer trial of its lineage to go on from.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.errors import HarnessError
from harness.experiment.spec import PlannedTrial
from harness.records import BatchLosses, Measured, Record
from harness.sealed import Damaged, load_sealed, write_sealed
from harness.trial import Trial, lineage
from harness.words import in_bytes

if TYPE_CHECKING:
    from harness.training.checkpoint import Checkpoint

KEPT: Final = 2
"""Checkpoints of a trial that is not done."""
FINAL_BYTES: Final = 4 << 30
"""Room for the last checkpoints of an experiment's done trials; the oldest go first."""

_NAME = re.compile(r"(\d{6,})-(\d{9,})\.pt")
_FINAL = re.compile(r"(\d{6,})\.final")
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """Where a task's trials keep theirs. folders: by trial id. every: seconds between two, None for
    the default. continues: whether a trial may go on from a shorter one that is done."""

    folders: Mapping[str, Path]
    every: float | None = None
    continues: bool = True


@dataclass(frozen=True, slots=True)
class CheckpointRoom:
    """An experiment's folder of checkpoints. every: as in `Checkpoints`. fresh: trials begin anew,
    whatever lies there."""

    folder: Path
    every: float | None = None
    fresh: bool = False

    def of(self, members: Sequence[PlannedTrial]) -> Checkpoints:
        """For a task of these trials, which is about to begin."""
        folders = {one.trial_id: self.place(one) for one in members}
        if self.fresh:
            for folder in folders.values():
                shutil.rmtree(folder, ignore_errors=True)
        return Checkpoints(folders, self.every, continues=not self.fresh)

    def place(self, planned: PlannedTrial) -> Path:
        """The folder of a trial."""
        shared = lineage(planned.trial.identity(), planned.fingerprint)
        return self.folder / shared / planned.trial_id


class NotKept(HarnessError):
    """A checkpoint cannot be written: the disk is full, or refuses it."""


class Position(NamedTuple):
    """Whole epochs, and batches of the next."""

    epoch: int
    batch: int

    def __str__(self) -> str:
        return f"{self.epoch} epochs" + (f" and {self.batch} batches" if self.batch else "")


@dataclass(frozen=True, slots=True)
class Found:
    """A checkpoint that is sound. history: what the trial had measured. facts: what it said of
    itself. continued: the epochs of the done trial that it is the end of, or None."""

    path: Path
    position: Position
    state: Mapping[str, Any]
    history: tuple[Record, ...]
    facts: Mapping[str, Any]
    continued: int | None


@dataclass(slots=True)
class TrialFolder:
    """One trial's checkpoints. damaged: how many were found that could not be used."""

    path: Path
    damaged: list[str] = field(default_factory=list)

    def save(
        self, checkpoint: Checkpoint, history: Sequence[Record], facts: Mapping[str, Any]
    ) -> None:
        """Keep a checkpoint, and forget all but the one before. Raises NotKept; those before are
        then as they were."""
        content = {
            "state": dict(checkpoint.state),
            "history": [_plain(record) for record in history],
            "facts": dict(facts),
        }
        name = f"{checkpoint.epoch:06d}-{checkpoint.batch:09d}.pt"
        try:
            write_sealed(self.path / name, content)
        except OSError as error:
            raise NotKept(_unkept(self.path, self.reached(), error)) from error
        held = sorted(self._held(), reverse=True)
        for _, path in held[KEPT:]:
            path.unlink(missing_ok=True)

    def reached(self) -> Position | None:
        """The furthest position that a file is there of."""
        return max((position for position, _ in self._held()), default=None)

    def sound(self, trial: Trial, continues: bool = True) -> Iterator[Found]:
        """What the trial can go on from, the furthest first: its own checkpoints, and the last ones
        of shorter trials of its lineage. A file that is damaged is set aside and told of."""
        for partial in self.path.glob("*.partial"):
            partial.unlink(missing_ok=True)  # of a process that was killed as it wrote
        own = [(position, path, None) for position, path in self._held()]
        shorter = self._shorter(trial) if continues else []
        candidates = [*own, *((Position(n, 0), path, n) for n, path in shorter)]
        for position, path, continued in sorted(candidates, key=lambda c: c[0], reverse=True):
            try:
                found = _found(path, position, load_sealed(path), continued)
            except (Damaged, OSError) as error:
                self.set_aside(path, str(error))
                continue
            yield found

    def set_aside(self, path: Path, why: str) -> None:
        """Warn that a file cannot be used. Of the trial's own it is renamed, so that it does not
        count among the last."""
        _logger.warning("checkpoint %s is not used: %s", path, why)
        if path.parent == self.path:
            self.damaged.append(f"{path.name}: {why}")
            with suppress(OSError):
                path.rename(path.with_name(path.name + ".damaged"))

    def refusal(self, trial: Trial) -> str:
        """Why a done and shorter trial of this lineage, which was long enough to keep something,
        kept nothing to go on from; empty where there is none."""
        done = [int(path.stem) for path in self.path.parent.glob("*/*.done") if path.stem.isdigit()]
        shorter = [epochs for epochs in done if epochs < trial.epochs]
        return next(filter(None, (uncontinuable(trial, n) for n in sorted(shorter))), "")

    def _held(self) -> Iterator[tuple[Position, Path]]:
        for path in self.path.glob("*"):
            if found := _NAME.fullmatch(path.name):
                yield Position(int(found[1]), int(found[2])), path
            elif found := _FINAL.fullmatch(path.name):
                yield Position(int(found[1]), 0), path

    def _shorter(self, trial: Trial) -> list[tuple[int, Path]]:
        found = []
        for path in self.path.parent.glob("*/*.final"):
            match = _FINAL.fullmatch(path.name)
            if match and int(match[1]) < trial.epochs and path.parent != self.path:
                found.append((int(match[1]), path))
        return found


def _unkept(folder: Path, before: Position | None, error: OSError) -> str:
    """Why a checkpoint could not be written, and what a person can do."""
    there = next(path for path in (folder, *folder.parents) if path.is_dir())
    why = f"{error.strerror or error}; {in_bytes(shutil.disk_usage(there).free)} free"
    told = f"no checkpoint could be written in {folder} ({why}): once that is mended, "
    if before is None:
        return told + "--retry-failed trains it again"
    return told + f"--retry-failed goes on from the one before, after {before}"


def uncontinuable(trial: Trial, epochs: int) -> str | None:
    """Why a trial that is like this one, but of so many epochs, cannot be continued to be one of
    more; None where it can."""
    scheduler = trial.scheduler
    if scheduler.component.needs_total(scheduler.options):
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


def remove(folder: Path) -> None:
    """Forget a trial's checkpoints; folders go with the last."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with suppress(OSError):
            parent.rmdir()


def _make_room(room: Path) -> None:
    held = [(path.stat(), path) for path in room.glob("*/*/*.final")]
    total = sum(stat.st_size for stat, _ in held)
    for stat, path in sorted(held, key=lambda pair: pair[0].st_mtime):
        if total <= FINAL_BYTES:
            return
        total -= stat.st_size
        remove(path.parent)


def _found(path: Path, position: Position, content: Any, continued: int | None) -> Found:
    try:
        history = tuple(_record(*plain) for plain in content["history"])
        return Found(path, position, content["state"], history, content["facts"], continued)
    except (TypeError, KeyError) as error:
        raise Damaged(f"it has not what it should: {error}") from error


def _plain(record: Record) -> tuple[Any, ...]:
    """A measurement as primitives, which load without running anyone's code."""
    match record:
        case Measured():
            values = {name: float(value) for name, value in record.values.items()}
            return "measured", record.epoch, values, record.examples
        case BatchLosses():
            return "batch_losses", record.examples, record.losses
    raise TypeError(f"not a measurement: {record!r}")


def _record(kind: str, *values: Any) -> Record:
    return Measured(*values) if kind == "measured" else BatchLosses(*values)
