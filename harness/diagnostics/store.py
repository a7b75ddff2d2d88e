"""Examines the store: the database, its runs and their files, checkpoints, and leftover files.

What the next sweep of an experiment repairs by itself is reported, and not repaired here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from harness.core.errors import HarnessError, InputError, StoreError, require_known
from harness.core.records import Outcome
from harness.core.text import format_bytes, join_with_and, plural
from harness.diagnostics import Finding, note, ok, wrong
from harness.execution.checkpoint_folder import CheckpointFolder
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.experiment.trial import Trial
from harness.store import health, names
from harness.store.coordination.leases import expired_leases
from harness.store.coordination.processes import is_dead
from harness.store.coordination.stale_runs import orphaned_folders, remove_orphaned_folders
from harness.store.creation import count_runs, rebuild
from harness.store.read.runs import StoredRun
from harness.store.read.tables import TableReader
from harness.store.store import Store, open_existing_store
from harness.store.uris import database_of, default_uri, sqlite_uri

MAX_EXAMPLES: Final = 3
"""How many of many similar faults are named."""
BUSY_SECONDS: Final = 3600.0
"""Checkpoints written more recently may be in use, whatever the store says."""
OLD_SECONDS: Final = 7 * 86400.0
"""Checkpoints of unfinished trials older than this are reported."""


def examine_store(uri: str | None, experiments: Sequence[str], wait: bool) -> Iterator[Finding]:
    """Opens the store, and returns an iterator over the finding of each check.

    uri: of the store; None for the default. experiments: examine only these; if empty, all.
    wait: whether to watch the leases of other machines. Raises InputError for unknown experiments,
    and where a store is named that does not exist.
    """
    try:
        store = open_existing_store(uri)
        ids = health.experiments(store)
    except InputError as error:
        if experiments or uri:
            raise
        return iter([note("store", error.problems[0].what)])
    except StoreError as error:
        return iter([_unopened(uri, error)])
    require_known(experiments, ids, "no experiment is named")
    return _examine(store, ids, experiments or sorted(ids), wait)


def _unopened(uri: str | None, error: StoreError) -> Finding:
    """Explains a store that cannot be opened. A half-made one without runs can be made anew."""
    database = database_of(uri or default_uri())
    runs = None if database is None else count_runs(database)
    if database is None or runs is None:
        return wrong("store", str(error))
    what = f"{database} cannot be opened ({error})"
    if runs:
        text = f"{what}, and has {plural(runs, 'run')}: copy it, then try mlflow db upgrade"
        return wrong("store", f"{text} {sqlite_uri(database)}, or restore an earlier copy")

    def rebuild_store() -> str:
        return f"{database} made anew; the old file is {rebuild(database).name}"

    text = f"{what}: a process was killed while it made the store, which has no runs"
    return wrong("store", text, rebuild_store)


def _examine(
    store: Store, ids: Mapping[str, str], experiments: Sequence[str], wait: bool
) -> Iterator[Finding]:
    yield from _check_database(store)
    for name in experiments:
        runs = health.trials(store, ids[name])
        faults = [*_check_running(store, name, ids[name], wait), *_check_runs(store, name, runs)]
        yield from faults or [ok(name, plural(len(runs), "trial"))]
    yield from _check_checkpoints(store, ids.values())
    yield from _check_waiting(store.home)
    yield from _check_left_over(store)


def _check_database(store: Store) -> Iterator[Finding]:
    database = store.database
    if database is None:
        yield ok("store", f"{store.label} answers")
        return
    tables = TableReader(database)
    damage = tables.damage()
    if damage:
        text = f"{database} is damaged: {damage}; restore a copy of it"
        yield wrong("store", f"{text} (sqlite3 FILE .recover saves what it can)")
        return
    yield ok("store", f"{database}: no damage found")
    repeated, conflicting = tables.repeated_values()
    if repeated:

        def remove_repeated() -> str:
            count = health.remove_repeated_values(database)
            return f"{plural(count, 'repeated value')} removed"

        text = f"{plural(repeated, 'value')} written twice for one run, metric and step"
        yield wrong("values", text, remove_repeated)
    if conflicting:
        text = f"{plural(conflicting, 'step')} of a run's metric with two different values"
        yield wrong("values", f"{text}: no one can tell which is right; --rerun those trials")
    if not repeated and not conflicting:
        yield ok("values", "one for each run, metric and step")


def _check_running(store: Store, name: str, experiment_id: str, wait: bool) -> Iterator[Finding]:
    """Checks the runs that MLflow shows as running."""
    dead, foreign = health.count_stale_runs(store, experiment_id)
    if dead:
        text = f"{plural(dead, 'run')} left RUNNING by dead processes"
        yield wrong(name, f"{text}: run the sweep again, which closes them")
    if foreign and not wait:
        text = f"{plural(foreign, 'run')} of other machines"
        yield note(name, f"{text}: --wait says whether their processes are alive")
    elif foreign:
        expired = expired_leases(store, experiment_id)
        if expired:
            text = f"{plural(len(expired), 'harness', 'harnesses')} of other machines died"
            yield wrong(name, f"{text}: run the sweep again, which closes their runs")
        else:
            yield note(name, f"{plural(foreign, 'run')} of other machines, which are alive")


def _check_runs(store: Store, name: str, runs: Sequence[StoredRun]) -> Iterator[Finding]:
    """Checks that each trial has one finished run, with all its files."""
    duplicates = health.duplicates(runs)
    if duplicates:

        def supersede() -> str:
            count = health.supersede_older(store, duplicates)
            return f"{plural(count, 'older run')} marked as superseded; the newest counts"

        text = f"{plural(len(duplicates), 'trial')} with several finished runs"
        yield wrong(name, text, supersede)
    faults = list(health.damaged_files(store, runs))
    if faults:
        rest = len(faults) - MAX_EXAMPLES
        text = join_with_and(faults[:MAX_EXAMPLES]) + (f" and {rest} more" if rest > 0 else "")
        yield wrong(name, f"{text}: --rerun these trials")


def _check_waiting(home: Path) -> Iterator[Finding]:
    """Counts the trials that wait for a sweep to write them, or to draw their figures."""
    for kind, text in (
        ("outbox", "trained while the store was away: run the same sweep again to write them"),
        ("spool", "whose figures are still to be drawn: the same sweep draws them at its end"),
    ):
        count = sum(path.suffix in (".trial", ".pt") for path in (home / kind).rglob("*"))
        if count:
            finding = wrong if kind == "outbox" else note
            yield finding(kind, f"{plural(count, 'trial')} {text}")


def _check_left_over(store: Store) -> Iterator[Finding]:
    """Checks for files that killed processes left."""
    folders = orphaned_folders(store)
    if folders:

        def remove_folders() -> str:
            count = remove_orphaned_folders(store)
            return f"{plural(count, 'folder')} of runs that were never written removed"

        text = f"{plural(len(folders), 'folder')} of runs that were never written: {folders[0]}"
        yield wrong("left over", text, remove_folders)
    files = health.partial_files(store.home)
    if files:

        def remove_files() -> str:
            for path in files:
                path.unlink(missing_ok=True)
            return f"{plural(len(files), 'half-written file')} removed"

        text = f"{plural(len(files), 'file')} half written by dead processes: {files[0].name}"
        yield wrong("left over", text, remove_files)


@dataclass(frozen=True, slots=True)
class FolderContents:
    """The checkpoints of a trial, or of a stack.

    experiment: the folder of the experiment's checkpoints.
    size: of all files, in bytes.
    modified: when the last of them was, in seconds since 1970.
    """

    path: Path
    experiment: Path
    files: tuple[Path, ...]
    size: int
    modified: float

    @classmethod
    def read(cls, path: Path) -> FolderContents:
        stats = {}
        for file in path.iterdir():
            with suppress(FileNotFoundError):  # A live process replaces its checkpoints.
                stats[file] = file.stat()
        size = sum(stat.st_size for stat in stats.values())
        modified = max((stat.st_mtime for stat in stats.values()), default=0.0)
        return cls(path, path.parent.parent, tuple(stats), size, modified)

    @property
    def is_unfinished(self) -> bool:
        """Whether it has more than the last checkpoint of a finished trial."""
        return any(file.suffix in (".pt", ".damaged") for file in self.files)

    @property
    def is_stack(self) -> bool:
        return self.path.parent == ExperimentCheckpoints(self.experiment).stacks_folder

    @property
    def trials(self) -> set[str]:
        """The ids of the trials that may continue from it."""
        return CheckpointFolder(self.path).waiting_trials() if self.is_stack else {self.path.name}

    def is_older_than(self, seconds: float) -> bool:
        return time.time() - self.modified >= seconds


def _check_checkpoints(store: Store, experiment_ids: Iterable[str]) -> Iterator[Finding]:
    """Checks for checkpoints that no sweep will use."""
    by_experiment = {store.checkpoints(id_): id_ for id_ in experiment_ids}
    unfinished: list[FolderContents] = []
    for experiment, experiment_id in sorted(by_experiment.items()):
        folders = [folder for folder in _folders(experiment) if folder.is_unfinished]
        if not folders:
            continue
        runs = _runs_by_trial(store, experiment_id)
        left = [folder for folder in folders if _is_unused(folder, runs)]
        if left:
            text = f"{_described(left)} left by finished trials: {left[0].path}"
            yield wrong("checkpoints", text, partial(_clear, left, runs))
        unfinished += [folder for folder in folders if folder not in left]
    old = [folder for folder in unfinished if folder.is_older_than(OLD_SECONDS)]
    if old:
        oldest = min(old, key=lambda folder: folder.modified)
        days = int((time.time() - oldest.modified) // 86400)
        yield note(
            "checkpoints",
            f"{_described(old)} of unfinished trials, the oldest unchanged for "
            f"{plural(days, 'day')}: their sweep continues from there; if nobody will run it "
            f"again, delete them: {oldest.path}",
        )
    unknown = [path for path in (store.home / "checkpoints").glob("*") if path not in by_experiment]
    folders = [folder for path in unknown for folder in _folders(path)]
    if folders:
        yield note(
            "checkpoints",
            f"{_described(folders)} of experiments that are not in this store: delete them unless "
            f"sweeps of another store use them: {folders[0].experiment}",
        )


def _folders(experiment: Path) -> list[FolderContents]:
    return [FolderContents.read(p) for p in sorted(experiment.glob("*/*")) if p.is_dir()]


def _described(folders: Sequence[FolderContents]) -> str:
    size = format_bytes(sum(folder.size for folder in folders))
    return f"{plural(len(folders), 'folder')}, {size},"


def _runs_by_trial(store: Store, experiment_id: str) -> dict[str, list[StoredRun]]:
    """Returns each trial's runs that no later run replaces."""
    runs: dict[str, list[StoredRun]] = {}
    for run in health.trials(store, experiment_id):
        # A run that has just started has its ids in a tag alone.
        trial_id, *_ = run.tags.get(names.TAG_IDS, "-").split()
        runs.setdefault(run.params.get(names.PARAM_TRIAL, trial_id), []).append(run)
    return runs


def _is_unused(folder: FolderContents, runs: Mapping[str, list[StoredRun]]) -> bool:
    """Whether it is certain that no process continues from a folder."""
    over = all(_is_over(runs.get(trial_id, [])) for trial_id in folder.trials)
    return over and folder.is_older_than(BUSY_SECONDS)


def _is_over(runs: Sequence[StoredRun]) -> bool:
    """Whether a trial has a finished run, and no live process trains it again."""
    return any(map(health.is_finished, runs)) and not any(
        run.status == "RUNNING" and not is_dead(run.tags.get(names.TAG_PROCESS, "")) for run in runs
    )


def _clear(folders: Sequence[FolderContents], runs: Mapping[str, list[StoredRun]]) -> str:
    """Clears folders as their sweep would have at the end of the trial."""
    for folder in folders:
        if folder.is_stack:
            CheckpointFolder(folder.path).delete()
            continue
        run = [run for run in runs[folder.path.name] if health.is_finished(run)][-1]
        try:
            trial = Trial.of(json.loads(run.tags[names.TAG_TRIAL]))
        except (HarnessError, ValueError, TypeError, KeyError):
            # No trial of this version continues one of another version.
            CheckpointFolder(folder.path).delete()
        else:
            is_done = run.tags[names.TAG_OUTCOME] == Outcome.DONE
            ExperimentCheckpoints(folder.experiment).clear(folder.path, trial, is_done)
    rest = sum(FolderContents.read(f.path).size for f in folders if f.path.is_dir())
    freed = format_bytes(sum(folder.size for folder in folders) - rest)
    return f"{plural(len(folders), 'folder')} of finished trials cleared, {freed} freed"
