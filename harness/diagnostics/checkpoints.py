"""Examines checkpoints: files that are damaged, and folders that nobody will go on from."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from harness.core.checksummed import DamagedFile, verify_checksum
from harness.core.errors import HarnessError
from harness.core.records import FINISHED, Outcome
from harness.core.text import format_bytes, plural
from harness.diagnostics.finding import Finding, note, ok, wrong
from harness.execution.checkpoint_folder import remove
from harness.execution.experiment_checkpoints import ExperimentCheckpoints, settle
from harness.execution.stack_folders import StackFolder
from harness.experiment.trial import Trial
from harness.store import health, names
from harness.store.coordination.processes import is_dead
from harness.store.read.runs import StoredRun
from harness.store.store import Store

BUSY_SECONDS: Final = 3600.0
"""What was touched within it may be in use, whatever the store says."""
LONG_SECONDS: Final = 7 * 86400.0
"""What a trial that is not done has kept so long, untouched, is told of."""


@dataclass(frozen=True, slots=True)
class Folder:
    """Checkpoints of one trial, or of a stack. room: the experiment's folder. bytes: all files
    together. touched: when the last of them was, in seconds since 1970."""

    path: Path
    room: Path
    files: tuple[Path, ...]
    bytes: int
    touched: float

    @classmethod
    def at(cls, path: Path) -> Folder:
        files, stats = [], []
        for file in path.iterdir():
            with suppress(FileNotFoundError):  # A living process replaces them.
                stats.append(file.stat())
                files.append(file)
        size, touched = sum(s.st_size for s in stats), max((s.st_mtime for s in stats), default=0.0)
        return cls(path, path.parent.parent, tuple(files), size, touched)

    @property
    def is_open(self) -> bool:
        """Whether it holds checkpoints of a trial in training, and not only a done trial's last."""
        return any(file.suffix in (".pt", ".damaged") for file in self.files)

    @property
    def is_stack(self) -> bool:
        return self.path.parent == ExperimentCheckpoints(self.room).stacks

    @property
    def trials(self) -> set[str]:
        """The ids of those that may go on from it."""
        return StackFolder(self.path).waiting() if self.is_stack else {self.path.name}

    def rests(self, seconds: float) -> bool:
        """Whether nothing in it was touched for so long."""
        return time.time() - self.touched >= seconds


def checkpoints(store: Store, ids: Mapping[str, str]) -> Iterator[Finding]:
    """All that lie beside the store. ids: of the store's experiments, by name."""
    yield from _files(store.home / "checkpoints")
    rooms = {store.checkpoints(experiment_id): experiment_id for experiment_id in ids.values()}
    kept: list[Folder] = []
    for room, experiment_id in sorted(rooms.items()):
        found = [folder for folder in _folders(room) if folder.is_open]
        if found:
            runs = _runs(store, experiment_id)
            left = [folder for folder in found if _is_left(folder, runs)]
            yield from _left(left, runs)
            kept += [folder for folder in found if folder not in left]
    yield from _kept([folder for folder in kept if folder.rests(LONG_SECONDS)])
    strange = [room for room in (store.home / "checkpoints").glob("*") if room not in rooms]
    yield from _strange([folder for room in strange for folder in _folders(room)])


def damage(path: Path) -> str:
    """Why a sealed file cannot be used; empty where it can."""
    try:
        verify_checksum(path)
    except (DamagedFile, OSError) as error:
        return str(error) or "damaged"
    return ""


def set_aside(files: list[Path]) -> str:
    """Rename them. Returns what was done, for people."""
    for path in files:
        path.rename(path.with_name(path.name + ".damaged"))
    return f"{plural(len(files), 'damaged file')} renamed to *.damaged"


def _files(folder: Path) -> Iterator[Finding]:
    files = sorted([*folder.rglob("*.pt"), *folder.rglob("*.final")])
    bad = [path for path in files if damage(path)]
    if bad:
        told = f"{plural(len(bad), 'file')} of {len(files)} damaged: {bad[0].name}"
        yield wrong("checkpoints", f"{told}; the ones before are used", partial(set_aside, bad))
    elif files:
        size = format_bytes(sum(path.stat().st_size for path in files))
        yield ok("checkpoints", f"{plural(len(files), 'file')}, {size}, each as it was written")


def _folders(room: Path) -> list[Folder]:
    return [Folder.at(path) for path in sorted(room.glob("*/*")) if path.is_dir()]


def _runs(store: Store, experiment_id: str) -> dict[str, list[StoredRun]]:
    """The runs of each trial that no later one replaces, by its id."""
    found: dict[str, list[StoredRun]] = {}
    for run in health.trials(store, experiment_id).runs:
        # A run that was just begun has its ids in a tag alone.
        trial_id, *_ = run.tags.get(names.TAG_IDS, "-").split()
        found.setdefault(run.params.get(names.PARAM_TRIAL, trial_id), []).append(run)
    return found


def _is_left(folder: Folder, runs: Mapping[str, list[StoredRun]]) -> bool:
    """Whether nobody goes on from a folder for certain."""
    over = all(_is_over(runs.get(trial_id, [])) for trial_id in folder.trials)
    return over and folder.rests(BUSY_SECONDS)


def _is_over(runs: list[StoredRun]) -> bool:
    """Whether a trial stands in the store as finished, so that no sweep goes on with it, and nobody
    trains it again."""
    alive = any(
        run.status == "RUNNING" and not is_dead(run.tags.get(names.TAG_PROCESS, "")) for run in runs
    )
    return any(map(_is_finished, runs)) and not alive


def _is_finished(run: StoredRun) -> bool:
    return run.tags.get(names.TAG_OUTCOME) in FINISHED


def _left(folders: list[Folder], runs: Mapping[str, list[StoredRun]]) -> Iterator[Finding]:
    if folders:
        told = f"{_counted(folders)} left by trials that are done: {folders[0].path}"
        yield wrong("checkpoints", told, partial(_settle, folders, runs))


def _settle(folders: list[Folder], runs: Mapping[str, list[StoredRun]]) -> str:
    for folder in folders:
        if folder.is_stack:
            remove(folder.path)
        else:
            _clear(folder, [run for run in runs[folder.path.name] if _is_finished(run)][-1])
    after = sum(Folder.at(folder.path).bytes for folder in folders if folder.path.is_dir())
    freed = format_bytes(sum(folder.bytes for folder in folders) - after)
    return f"{plural(len(folders), 'folder')} of trials that are done cleared, {freed} freed"


def _clear(folder: Folder, run: StoredRun) -> None:
    """As a sweep does at a trial's end: its last checkpoint stays where a longer one may go on from
    it."""
    try:
        trial = Trial.of(json.loads(run.tags[names.TAG_TRIAL]))
    except (HarnessError, ValueError, TypeError, KeyError):
        remove(folder.path)  # Of another release, whose trials none of today's continues.
    else:
        settle(folder.room, folder.path, trial, run.tags[names.TAG_OUTCOME] == Outcome.DONE)


def _kept(folders: list[Folder]) -> Iterator[Finding]:
    if folders:
        oldest = min(folders, key=lambda folder: folder.touched)
        days = int((time.time() - oldest.touched) // 86400)
        yield note(
            "checkpoints",
            f"{_counted(folders)} of trials that are not done, the oldest untouched for "
            f"{plural(days, 'day')}: their sweep goes on from there; where nobody will run it "
            f"again, delete them: {oldest.path}",
        )


def _strange(folders: list[Folder]) -> Iterator[Finding]:
    if folders:
        yield note(
            "checkpoints",
            f"{_counted(folders)} of experiments that this store does not know: delete them unless "
            f"another store's sweeps use them: {folders[0].room}",
        )


def _counted(folders: list[Folder]) -> str:
    size = format_bytes(sum(folder.bytes for folder in folders))
    return f"{plural(len(folders), 'folder')}, {size},"
