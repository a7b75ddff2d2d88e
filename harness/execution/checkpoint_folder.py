"""A folder of checkpoints, of one trial or of one stack."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from harness.core.errors import HarnessError
from harness.core.files import DamagedFile, load_checksummed, write_checksummed
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record
from harness.core.text import format_bytes

if TYPE_CHECKING:
    from harness.experiment.trial import Trial
    from harness.training.checkpoint import Checkpoint

CHECKPOINTS_PER_FOLDER: Final = 2
TRIAL_MARK: Final = ".member"
"""Suffix of the empty files in a stack's folder that name the trials without a stored result."""

OWN_FOLDER: Final = "own"
"""The folder in a trial's folder where a training loop of a user's own keeps its checkpoints."""

_CHECKPOINT = re.compile(r"(\d{6,})-(\d{9,})\.pt")
_FINAL = re.compile(r"(\d{6,})\.final")
_logger = logging.getLogger(__name__)


class CheckpointWriteError(HarnessError):
    """A checkpoint cannot be written, for example because the disk is full."""


class Position(NamedTuple):
    """How far training has come: whole epochs, and batches of the next one."""

    epoch: int
    batch: int

    def __str__(self) -> str:
        return f"{self.epoch} epochs" + (f" and {self.batch} batches" if self.batch else "")


@dataclass(slots=True)
class TrainingLog:
    """What a checkpoint holds beside the training state.

    trials: all with which training began, by id and in order; a lone trial is the only one.
    history: the measurements of each trial so far. ended: how those trials ended that have.
    metadata: where training ran, and how often it was resumed.
    """

    trials: Mapping[str, Trial]
    history: dict[str, list[Record]] = field(default_factory=dict)
    ended: dict[str, Ended] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoadedCheckpoint:
    """A checkpoint that was read and is intact.

    trials: the resolved fields of a stack's trials, by id and in order; empty for a lone trial.
    history, ended, metadata: as in `TrainingLog`. continued_from: the number of epochs of the
    shorter, finished trial that wrote it; None if the trial or the stack itself did.
    """

    path: Path
    position: Position
    state: Mapping[str, Any]
    trials: Mapping[str, Mapping[str, Any]]
    history: dict[str, list[Record]]
    ended: dict[str, Ended]
    metadata: Mapping[str, Any]
    continued_from: int | None = None


class CheckpointFolder:
    """The last two checkpoints of a trial or of a stack; each file is whole or absent.

    damaged: the checkpoint files that could not be read, with the reasons.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[str] = []

    def write(self, checkpoint: Checkpoint, log: TrainingLog) -> None:
        """Writes a checkpoint, and deletes all but the one before it.

        A stack's first checkpoint also marks the trials that wait for it. Raises
        CheckpointWriteError; the earlier checkpoints then stay as they were.
        """
        name = f"{checkpoint.epoch:06d}-{checkpoint.batch:09d}.pt"
        try:
            if len(log.trials) > 1 and not self.waiting_trials():
                self.path.mkdir(parents=True, exist_ok=True)
                for trial_id in log.trials:
                    (self.path / f"{trial_id}{TRIAL_MARK}").touch()
            write_checksummed(self.path / name, _encode(checkpoint, log))
        except OSError as error:
            raise CheckpointWriteError(self._explain(error)) from error
        for _, path in sorted(self.files(), reverse=True)[CHECKPOINTS_PER_FOLDER:]:
            path.unlink(missing_ok=True)

    def _explain(self, error: OSError) -> str:
        """Returns why a checkpoint could not be written, and what the user can do."""
        parent = next(path for path in (self.path, *self.path.parents) if path.is_dir())
        why = f"{error.strerror or error}; {format_bytes(shutil.disk_usage(parent).free)} free"
        text = f"no checkpoint could be written in {self.path} ({why}): once that is fixed, "
        if (before := self.latest_position()) is None:
            return text + "--retry-failed trains the trial again"
        return text + f"--retry-failed resumes from the checkpoint before, after {before}"

    def files(self) -> Iterator[tuple[Position, Path]]:
        """Yields the checkpoints, in no order."""
        for path in self.path.glob("*"):
            if match := _CHECKPOINT.fullmatch(path.name):
                yield Position(int(match[1]), int(match[2])), path
            elif match := _FINAL.fullmatch(path.name):
                yield Position(int(match[1]), 0), path

    def latest_position(self) -> Position | None:
        """Returns the position of the latest checkpoint, or None if there is none."""
        return max((position for position, _ in self.files()), default=None)

    def latest_write(self) -> float:
        """Returns when the latest checkpoint was written, in seconds since 1970, or 0."""
        latest = 0.0
        for _, path in self.files():
            with suppress(OSError):  # The stack's process deletes it as it writes the next.
                latest = max(latest, path.stat().st_mtime)
        return latest

    def load(self, trial_id: str, trial: Trial | None = None) -> Iterator[LoadedCheckpoint]:
        """Yields the checkpoints to resume from, the latest first.

        trial_id: whose records a lone trial's checkpoint holds, as the file does not say.
        trial: may also continue from the last checkpoint of a finished trial that differs from it
        by fewer epochs alone; None if nothing is continued.
        A file that is damaged or holds something else is set aside.
        """
        for partial in self.path.glob("*.partial"):
            partial.unlink(missing_ok=True)  # of a process that was killed while it wrote
        shorter = dict(self._finals_of_shorter(trial)) if trial else {}
        candidates = [*self.files(), *((Position(n, 0), path) for path, n in shorter.items())]
        for position, path in sorted(candidates, key=lambda c: c[0], reverse=True):
            try:
                content = load_checksummed(path)
                loaded = _decode(path, position, content, trial_id, shorter.get(path))
            except (DamagedFile, OSError) as error:
                self.set_aside(path, str(error))
            except (TypeError, KeyError) as error:
                self.set_aside(path, f"it does not hold a checkpoint: {error}")
            else:
                yield loaded

    def set_aside(self, path: Path, why: str) -> None:
        """Warns that a file cannot be used, and renames it if it lies in this folder, so that it no
        longer counts among the last two."""
        _logger.warning("checkpoint %s is not used: %s", path, why)
        if path.parent == self.path:
            self.damaged.append(f"{path.name}: {why}")
            with suppress(OSError):
                path.rename(path.with_name(path.name + ".damaged"))

    def waiting_trials(self) -> set[str]:
        """Returns the ids of a stack's trials that have no stored result yet."""
        return {path.stem for path in self.path.glob(f"*{TRIAL_MARK}")}

    def forget_waiting_trials(self) -> None:
        """Forgets who waits: a stack that starts again may have other trials than before."""
        for mark in self.path.glob(f"*{TRIAL_MARK}"):
            mark.unlink(missing_ok=True)

    def why_not_continued(self, trial: Trial) -> str:
        """Returns why no finished, shorter trial left a checkpoint to continue from, although one
        was long enough to have some; empty if there is no such trial."""
        done = [int(path.stem) for path in self.path.parent.glob("*/*.done") if path.stem.isdigit()]
        shorter = sorted(epochs for epochs in done if epochs < trial.epochs)
        return next(filter(None, (why_not_continuable(trial, epochs) for epochs in shorter)), "")

    def _finals_of_shorter(self, trial: Trial) -> Iterator[tuple[Path, int]]:
        for path in self.path.parent.glob("*/*.final"):
            match = _FINAL.fullmatch(path.name)
            if match and int(match[1]) < trial.epochs and path.parent != self.path:
                yield path, int(match[1])

    def delete(self) -> None:
        """Deletes the folder, and those around it that are then empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        for parent in (self.path.parent, self.path.parent.parent):
            with suppress(OSError):
                parent.rmdir()


def why_not_continuable(trial: Trial, epochs: int) -> str | None:
    """Returns why a trial like this one, but of so many epochs, cannot continue to more; None if it
    can."""
    scheduler = trial.scheduler
    if scheduler.component.needs_length(scheduler.options):
        return f"the scheduler {scheduler.label} depends on the length of the whole run"
    if epochs % trial.eval_every:
        return f"its last epoch was evaluated out of turn (eval_every: {trial.eval_every})"
    return None


def _encode(checkpoint: Checkpoint, log: TrainingLog) -> dict[str, Any]:
    """Returns a checkpoint as tensors and primitives, which load without running anyone's code."""
    history = {
        trial_id: [_encode_record(record) for record in records]
        for trial_id, records in log.history.items()
    }
    content = {"state": dict(checkpoint.state), "facts": log.metadata}
    if len(log.trials) == 1:
        (trial_id,) = log.trials
        return {**content, "history": history.get(trial_id, [])}
    ended = {
        trial_id: (end.outcome.value, end.reason, dict(end.metadata))
        for trial_id, end in log.ended.items()
    }
    trials = {trial_id: trial.resolved() for trial_id, trial in log.trials.items()}
    return {**content, "trials": trials, "history": history, "ended": ended}


def _decode(
    path: Path, position: Position, content: Any, trial_id: str, continued_from: int | None
) -> LoadedCheckpoint:
    """The inverse of `_encode`. Raises KeyError or TypeError for anything else."""
    is_stack = "trials" in content
    history = content["history"] if is_stack else {trial_id: content["history"]}
    ended = content["ended"] if is_stack else {}
    return LoadedCheckpoint(
        path,
        position,
        content["state"],
        content["trials"] if is_stack else {},
        {key: [_decode_record(*record) for record in past] for key, past in history.items()},
        {
            key: Ended(Outcome(outcome), {}, reason, metadata=metadata)
            for key, (outcome, reason, metadata) in ended.items()
        },
        content["facts"],
        continued_from,
    )


def _encode_record(record: Record) -> tuple[Any, ...]:
    match record:
        case Measured():
            values = {name: float(value) for name, value in record.values.items()}
            return "measured", record.epoch, values, record.examples
        case BatchLosses():
            return "batch_losses", record.examples, record.losses
    raise TypeError(f"not a measurement: {record!r}")


def _decode_record(kind: str, *values: Any) -> Record:
    return Measured(*values) if kind == "measured" else BatchLosses(*values)
