"""Where stacks keep their checkpoints: a folder each, which names the trials that wait for it.

Of each trial whose result is not in the store an empty file `<trial id>.member` lies there, so that
the next process finds which trials go on together without reading a checkpoint. The folder goes
with the last of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.core.records import Ended, Outcome, Record
from harness.execution.checkpoint_folder import Folder, Position, measurement, plain, remove
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Trial

if TYPE_CHECKING:
    from harness.training.checkpoint import Checkpoint

MEMBER: Final = ".member"


@dataclass(frozen=True, slots=True)
class InterruptedStack:
    """Trials of a stack that left a checkpoint, in its folder."""

    members: tuple[PlannedTrial, ...]
    folder: Path


@dataclass(slots=True)
class Story:
    """What a stack's checkpoints hold beside its numbers. trials: all that it began with, in their
    order; a trial that the plan no longer has is here alone. history: what each has measured.
    ended: how those ended that have. facts: what it said of itself."""

    trials: tuple[tuple[str, Trial], ...]
    history: dict[str, list[Record]]
    ended: dict[str, Ended]
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class FoundStack:
    """A stack's checkpoint that is sound. trials: resolved, by their keys in the stack's order;
    the rest of its story as in `Story`."""

    path: Path
    position: Position
    state: Mapping[str, Any]
    trials: Mapping[str, Mapping[str, Any]]
    history: Mapping[str, list[Record]]
    ended: Mapping[str, Ended]
    metadata: Mapping[str, Any]


class StackFolder(Folder):
    """One stack's checkpoints."""

    __slots__ = ()

    def waiting(self) -> set[str]:
        """The ids of the trials that wait for it."""
        return {path.stem for path in self.path.glob(f"*{MEMBER}")}

    def save(self, checkpoint: Checkpoint, story: Story) -> None:
        """Write a checkpoint, and delete all but the one before.

        Raises CheckpointWriteError, and then leaves the earlier ones as they were."""
        try:
            if not self.waiting():
                self._wait_for([key for key, _ in story.trials])
        except OSError as error:
            raise self.refused(error) from error
        content = {
            "state": dict(checkpoint.state),
            "trials": {key: trial.resolved() for key, trial in story.trials},
            "history": {
                key: [plain(record) for record in records] for key, records in story.history.items()
            },
            "ended": {
                key: (end.outcome.value, end.reason, dict(end.metadata))
                for key, end in story.ended.items()
            },
            "facts": story.metadata,
        }
        self.write(Position(checkpoint.epoch, checkpoint.batch), content)

    def sound(self) -> Iterator[FoundStack]:
        """What the stack can go on from, the furthest first. A file that is damaged is set aside
        and told of."""
        return self.readable(self.held(), _found)

    def begin_anew(self) -> None:
        """Forget who waited: other trials may than do now."""
        for mark in self.path.glob(f"*{MEMBER}"):
            mark.unlink(missing_ok=True)

    def _wait_for(self, keys: Sequence[str]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        for key in keys:
            (self.path / f"{key}{MEMBER}").touch()


def stack_folder(room: Path, keys: Sequence[str]) -> Path:
    """The folder of a stack that begins with these trials, in any order. room: of all stacks."""
    return room / hashlib.sha256(" ".join(sorted(keys)).encode()).hexdigest()[:16]


def begun_stacks(room: Path, trials: Sequence[PlannedTrial]) -> list[InterruptedStack]:
    """Which of these trials were in stacks that left a checkpoint; the latest stack of each."""
    latest = sorted(((_written(folder), folder) for folder in room.glob("*")), reverse=True)
    left = {one.trial_id: one for one in trials} if latest else {}
    found = []
    for written, folder in latest:
        if not written:
            break
        waiting = StackFolder(folder).waiting()
        members = tuple(one for key, one in left.items() if key in waiting)
        if members:
            found.append(InterruptedStack(members, folder))
            left = {key: one for key, one in left.items() if key not in waiting}
    return found


def leave_stacks(room: Path, key: str) -> None:
    """A trial no longer waits for the stack that it was in; a stack for which none waits goes."""
    for mark in room.glob(f"*/{key}{MEMBER}"):
        mark.unlink(missing_ok=True)
        if not StackFolder(mark.parent).waiting():
            remove(mark.parent)


def leave_finished(room: Path, finished: Container[str]) -> None:
    """As `leave_stacks` of all trials that stand in the store: a process may have been killed
    before it said so here."""
    for mark in room.glob(f"*/*{MEMBER}"):
        if mark.stem in finished:
            leave_stacks(room, mark.stem)


def _written(folder: Path) -> float:
    """When its latest checkpoint was; 0 where there is none."""
    found = 0.0
    for _, path in StackFolder(folder).held():
        with suppress(OSError):  # It goes as the stack's process writes the next.
            found = max(found, path.stat().st_mtime)
    return found


def _found(position: Position, path: Path, content: Any) -> FoundStack:
    return FoundStack(
        path,
        position,
        content["state"],
        content["trials"],
        {key: [measurement(*one) for one in past] for key, past in content["history"].items()},
        {
            key: Ended(Outcome(how), {}, reason, metadata=metadata)
            for key, (how, reason, metadata) in content["ended"].items()
        },
        content["facts"],
    )
