"""Checkpoints in a folder: the last two, each whole or not there."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from harness.core.checksummed import DamagedFile, load_checksummed, write_checksummed
from harness.core.errors import HarnessError
from harness.core.records import BatchLosses, Measured, Record
from harness.core.text import format_bytes

KEPT: Final = 2
"""Checkpoints of what is not done."""

_NAME = re.compile(r"(\d{6,})-(\d{9,})\.pt")
_logger = logging.getLogger(__name__)

Found = TypeVar("Found")


class CheckpointWriteError(HarnessError):
    """A checkpoint cannot be written: the disk is full, or refuses it."""


class Position(NamedTuple):
    """Whole epochs, and batches of the next."""

    epoch: int
    batch: int

    def __str__(self) -> str:
        return f"{self.epoch} epochs" + (f" and {self.batch} batches" if self.batch else "")


@dataclass(slots=True)
class Folder:
    """A folder of checkpoints. damaged: those that were found and could not be used."""

    path: Path
    damaged: list[str] = field(default_factory=list)

    def write(self, position: Position, content: object) -> None:
        """Write a checkpoint, and delete all but the one before.

        Raises CheckpointWriteError, and then leaves the earlier ones as they were."""
        name = f"{position.epoch:06d}-{position.batch:09d}.pt"
        try:
            write_checksummed(self.path / name, content)
        except OSError as error:
            raise self.refused(error) from error
        held = sorted(self.held(), reverse=True)
        for _, path in held[KEPT:]:
            path.unlink(missing_ok=True)

    def refused(self, error: OSError) -> CheckpointWriteError:
        """Why a checkpoint could not be written, and what a person can do."""
        there = next(path for path in (self.path, *self.path.parents) if path.is_dir())
        why = f"{error.strerror or error}; {format_bytes(shutil.disk_usage(there).free)} free"
        told = f"no checkpoint could be written in {self.path} ({why}): once that is mended, "
        if (before := self.reached()) is None:
            return CheckpointWriteError(told + "--retry-failed trains it again")
        return CheckpointWriteError(
            told + f"--retry-failed goes on from the one before, after {before}"
        )

    def reached(self) -> Position | None:
        """The furthest position that a file is there of."""
        return max((position for position, _ in self.held()), default=None)

    def held(self) -> Iterator[tuple[Position, Path]]:
        """What lies there, in no order."""
        for path in self.path.glob("*"):
            if found := _NAME.fullmatch(path.name):
                yield Position(int(found[1]), int(found[2])), path

    def readable(
        self,
        candidates: Iterable[tuple[Position, Path]],
        made: Callable[[Position, Path, Any], Found],
    ) -> Iterator[Found]:
        """What is `made` of the candidates' contents, the furthest first. A file that is damaged,
        also one that holds something else (KeyError, TypeError), is set aside and told of."""
        for partial in self.path.glob("*.partial"):
            partial.unlink(missing_ok=True)  # of a process that was killed as it wrote
        for position, path in sorted(candidates, key=lambda c: c[0], reverse=True):
            try:
                found = made(position, path, load_checksummed(path))
            except (DamagedFile, OSError) as error:
                self.set_aside(path, str(error))
            except (TypeError, KeyError) as error:
                self.set_aside(path, f"it has not what it should: {error}")
            else:
                yield found

    def set_aside(self, path: Path, why: str) -> None:
        """Warn that a file cannot be used. Of this folder it is renamed, so that it does not count
        among the last."""
        _logger.warning("checkpoint %s is not used: %s", path, why)
        if path.parent == self.path:
            self.damaged.append(f"{path.name}: {why}")
            with suppress(OSError):
                path.rename(path.with_name(path.name + ".damaged"))

    def restarted(self) -> dict[str, str]:
        """What `Started.facts` says of training that begins anew although checkpoints were there;
        empty where none was."""
        if not self.damaged:
            return {}
        why = "; ".join(self.damaged)
        return {"restarted": f"none of its checkpoints could be used: {why}"}


def remove(folder: Path) -> None:
    """Forget a folder of checkpoints; those around it go with their last."""
    shutil.rmtree(folder, ignore_errors=True)
    for parent in (folder.parent, folder.parent.parent):
        with suppress(OSError):
            parent.rmdir()


def plain(record: Record) -> tuple[Any, ...]:
    """A measurement as primitives, which load without running anyone's code."""
    match record:
        case Measured():
            values = {name: float(value) for name, value in record.values.items()}
            return "measured", record.epoch, values, record.examples
        case BatchLosses():
            return "batch_losses", record.examples, record.losses
    raise TypeError(f"not a measurement: {record!r}")


def measurement(kind: str, *values: Any) -> Record:
    """The inverse of `plain`."""
    return Measured(*values) if kind == "measured" else BatchLosses(*values)
