"""What may be wrong with a store, and how to repair what no sweep repairs by itself."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

import psutil

from harness.core.errors import StoreError
from harness.core.records import FINISHED
from harness.store import names
from harness.store.coordination.processes import is_dead, is_on_this_host
from harness.store.coordination.stale_runs import running_runs
from harness.store.read.client import experiment_titles
from harness.store.read.run_details import has_file
from harness.store.read.runs import StoredRun
from harness.store.read.tables import REPEATED_ROWS, TableReader
from harness.store.retry import with_retries
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class TrialRuns:
    """The runs of an experiment's trials that no later run replaces."""

    experiment_id: str
    runs: tuple[StoredRun, ...]

    def finished(self) -> Iterator[StoredRun]:
        return (run for run in self.runs if run.tags.get(names.TAG_OUTCOME) in FINISHED)


def experiments(store: Store) -> dict[str, str]:
    """Returns the id of each experiment that is not deleted, by its name, without MLflow's own
    empty one."""
    titles = experiment_titles(store)
    return {title: str(key) for key, title in titles.items() if title != "Default"}


def trials(store: Store, experiment_id: str) -> TrialRuns:
    """Reads the runs of an experiment's trials."""
    runs = (
        run
        for run in store.runs(experiment_id)
        if run.tags.get(names.TAG_KIND) == names.TRIAL and names.TAG_SUPERSEDED not in run.tags
    )
    return TrialRuns(experiment_id, tuple(runs))


def damage(database: Path) -> str:
    """Returns what SQLite finds wrong with the file; "" if it is sound."""
    return TableReader(database).damage()


def count_stale_runs(store: Store, experiment_id: str) -> tuple[int, int]:
    """Counts the running runs of dead processes, and those of other machines, of whose processes
    nothing is known here."""
    running = running_runs(store, experiment_id)
    tags = [run.data.tags.get(names.TAG_PROCESS, "") for run in running]
    return sum(map(is_dead, tags)), sum(not is_on_this_host(tag) for tag in tags)


def duplicates(trial_runs: TrialRuns) -> Mapping[str, list[StoredRun]]:
    """Returns the finished runs of each trial that has several, the newest last."""
    by_trial: dict[str, list[StoredRun]] = defaultdict(list)
    for run in trial_runs.finished():
        by_trial[run.params.get(names.PARAM_TRIAL, run.run_id)].append(run)
    return {trial_id: runs for trial_id, runs in by_trial.items() if len(runs) > 1}


def supersede_older(store: Store, runs_by_trial: Mapping[str, list[StoredRun]]) -> int:
    """Marks all but each trial's newest run as superseded. Returns how many."""
    older = [(run.run_id, runs[-1].run_id) for runs in runs_by_trial.values() for run in runs[:-1]]
    for run_id, newest in older:
        with_retries(
            "write to a run",
            lambda run_id=run_id, newest=newest: store.client.set_tag(  # type: ignore[misc]
                run_id, names.TAG_SUPERSEDED, newest
            ),
        )
    return len(older)


def damaged_files(store: Store, trial_runs: TrialRuns) -> Iterator[str]:
    """Yields a sentence for each file of a finished run that is missing or damaged."""
    for run in trial_runs.finished():
        files = [names.PROVENANCE_FILE]
        if run.tags.get(names.TAG_ARTIFACTS) == names.ARTIFACTS_COMPLETE:
            files.append(names.WEIGHTS_FILE)
        for name in files:
            fault = _file_fault(store, run.run_id, name)
            if fault:
                yield f"{run.name} (run {run.run_id[:8]}): {name} {fault}"


def repeated_values(database: Path) -> tuple[int, int]:
    """See `TableReader.repeated_values`."""
    return TableReader(database).repeated_values()


def remove_repeated_values(database: Path) -> int:
    """Removes values that repeat an earlier one of their run, metric and step. Returns how many."""
    query = f"DELETE FROM metrics WHERE rowid IN ({REPEATED_ROWS})"  # noqa: S608 - a constant
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        return connection.execute(query).rowcount


def partial_files(folders: Iterable[Path]) -> list[Path]:
    """Returns files that a process was writing when it was killed."""
    files = []
    for folder in folders:
        for path in folder.rglob("*.partial"):
            pid = path.name.split(".")[-2]
            if not pid.isdecimal() or not psutil.pid_exists(int(pid)):
                files.append(path)
    return sorted(files)


def _file_fault(store: Store, run_id: str, name: str) -> str:
    """Returns the problem of a run's file. Reads only files on this machine."""
    folder = _local_folder(store, run_id)
    if folder is None:
        try:
            return "" if has_file(store, run_id, name) else "is missing"
        except StoreError as error:
            return f"cannot be looked for: {error}"
    path = folder / name
    if not path.is_file():
        return "is missing"
    checksum_file = path.with_name(path.name + ".sha256")
    if not checksum_file.is_file():
        return ""
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    same = checksum_file.read_text(encoding="utf-8").split()[:1] == [checksum]
    return "" if same else "is damaged"


def _local_folder(store: Store, run_id: str) -> Path | None:
    """Returns the folder of a run's files if it is on this machine."""
    if store.artifacts is None:
        return None
    run = with_retries(f"read {store.label}", lambda: store.client.get_run(run_id))
    address = urlparse(run.info.artifact_uri)
    return Path(unquote(address.path)) if address.scheme in ("", "file") else None
