"""What may be wrong with a store, and how to repair what no sweep repairs by itself."""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import psutil

from harness.core.errors import StoreError
from harness.core.records import FINISHED
from harness.store import names
from harness.store.coordination.processes import is_dead, is_on_this_host
from harness.store.coordination.stale_runs import running_runs
from harness.store.read.run_details import has_file, is_undamaged
from harness.store.read.runs import StoredRun, experiment_titles
from harness.store.read.tables import REPEATED_ROWS
from harness.store.store import Store
from harness.store.uris import local_path


def experiments(store: Store) -> dict[str, str]:
    """Returns the id of each experiment that is not deleted, by its name, without MLflow's own
    empty one."""
    titles = experiment_titles(store)
    return {title: str(key) for key, title in titles.items() if title != "Default"}


def trials(store: Store, experiment_id: str) -> list[StoredRun]:
    """Reads the runs of an experiment's trials that no later run replaces."""
    return [
        run
        for run in store.runs(experiment_id)
        if run.tags.get(names.TAG_KIND) == names.TRIAL and names.TAG_SUPERSEDED not in run.tags
    ]


def is_finished(run: StoredRun) -> bool:
    """Returns whether a trial's run has a result."""
    return run.tags.get(names.TAG_OUTCOME) in FINISHED


def count_stale_runs(store: Store, experiment_id: str) -> tuple[int, int]:
    """Counts the running runs of dead processes, and those of other machines, of whose processes
    nothing is known here."""
    running = running_runs(store, experiment_id)
    tags = [run.data.tags.get(names.TAG_PROCESS, "") for run in running]
    return sum(map(is_dead, tags)), sum(not is_on_this_host(tag) for tag in tags)


def duplicates(runs: Sequence[StoredRun]) -> Mapping[str, list[StoredRun]]:
    """Returns the finished runs of each trial that has several, the newest last."""
    by_trial: dict[str, list[StoredRun]] = defaultdict(list)
    for run in filter(is_finished, runs):
        by_trial[run.params.get(names.PARAM_TRIAL, run.run_id)].append(run)
    return {trial_id: finished for trial_id, finished in by_trial.items() if len(finished) > 1}


def supersede_older(store: Store, runs_by_trial: Mapping[str, list[StoredRun]]) -> int:
    """Marks all but each trial's newest run as superseded. Returns how many."""
    older = [(run.run_id, runs[-1].run_id) for runs in runs_by_trial.values() for run in runs[:-1]]
    for run_id, newest in older:
        store.set_tag(run_id, names.TAG_SUPERSEDED, newest)
    return len(older)


def damaged_files(store: Store, runs: Sequence[StoredRun]) -> Iterator[str]:
    """Yields a sentence for each file of a finished run that is missing or damaged."""
    for run in filter(is_finished, runs):
        files = [names.PROVENANCE_FILE]
        if run.tags.get(names.TAG_ARTIFACTS) == names.ARTIFACTS_COMPLETE:
            files.append(names.WEIGHTS_FILE)
        for name in files:
            fault = _file_fault(store, run.run_id, name)
            if fault:
                yield f"{run.name} (run {run.run_id[:8]}): {name} {fault}"


def remove_repeated_values(database: Path) -> int:
    """Removes values that repeat an earlier one of their run, metric and step. Returns how many."""
    query = f"DELETE FROM metrics WHERE rowid IN ({REPEATED_ROWS})"  # noqa: S608 - a constant
    with closing(sqlite3.connect(database, timeout=20)) as connection, connection:
        return connection.execute(query).rowcount


def partial_files(folder: Path) -> list[Path]:
    """Returns files that a process was writing when it was killed."""
    files = []
    for path in folder.rglob("*.partial"):
        pid = path.name.split(".")[-2]
        if not pid.isdecimal() or not psutil.pid_exists(int(pid)):
            files.append(path)
    return sorted(files)


def _file_fault(store: Store, run_id: str, name: str) -> str:
    """Returns the problem of a run's file. Reads only files on this machine."""
    is_here = store.artifacts is not None
    folder = local_path(store.run(run_id).info.artifact_uri) if is_here else None
    if folder is None:
        try:
            return "" if has_file(store, run_id, name) else "is missing"
        except StoreError as error:
            return f"cannot be looked for: {error}"
    if not (folder / name).is_file():
        return "is missing"
    return "" if is_undamaged(folder / name) else "is damaged"
