"""Cleans up after processes that were killed: their open runs, and files of unwritten runs.

MLflow would show an open run as running for ever. A run's files are written before the run itself,
so that no finished run lacks them; a process killed in between leaves files without a run.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.records import Outcome
from harness.store import names
from harness.store.coordination.processes import is_dead, no_active_writers
from harness.store.creation import UNFINISHED
from harness.store.read.runs import search_runs
from harness.store.read.tables import TableReader
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.uris import local_path
from harness.store.write.trial_run import STATUS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_RUN_FOLDER = re.compile(r"[0-9a-f]{32}")
_WRITTEN_FIRST = re.compile(r"provenance\.json|traceback\.txt|\..*\.partial")
"""The files that are written before their run."""
_NOT_DATABASES = ("-wal", "-shm", "-journal", ".lock", UNFINISHED)
"""Ends of the names of what SQLite and the store keep beside a database."""


def clean_up_after_dead_processes(store: Store, experiment_id: str) -> None:
    """Closes an experiment's running runs whose process is known to be dead. If there were any,
    removes files of runs that were never written.

    Runs of other hosts are left alone: their leases tell whether they are alive.
    """
    dead = [
        run
        for run in running_runs(store, experiment_id)
        if is_dead(run.data.tags.get(names.TAG_PROCESS, ""))
    ]
    for run in dead:
        close_run(store, run, "its process died")
    if dead:
        remove_orphaned_folders(store)


def running_runs(store: Store, experiment_id: str, condition: str = "") -> list[Run]:
    """Returns an experiment's runs with MLflow's status RUNNING. condition: a further condition, in
    MLflow's filter language."""
    running = "attributes.status = 'RUNNING'"
    matches = f"{running} AND {condition}" if condition else running
    return list(search_runs(store, [experiment_id], matches))


def close_run(store: Store, run: Run, reason: str) -> None:
    """Ends a run whose process is gone, with the outcome that it has, else as interrupted."""
    with_retries("close a run", _close, store.client, run, reason)


def orphaned_folders(store: Store) -> list[Path]:
    """Returns the folders of files whose run was never written, beside a store that is a file.

    Returns nothing while another process writes: its unfinished runs look the same.
    """
    with no_active_writers(store.claims_folder) as is_idle:
        folders = _folders_without_run(store)
        return folders if is_idle() else []


def remove_orphaned_folders(store: Store) -> int:
    """Removes `orphaned_folders`. Returns how many."""
    with no_active_writers(store.claims_folder) as is_idle:
        folders = _folders_without_run(store)
        if not is_idle():
            return 0
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        return len(folders)


def _close(client: MlflowClient, run: Run, reason: str) -> None:
    run_id, tags = run.info.run_id, run.data.tags
    stored = tags.get(names.TAG_OUTCOME)
    outcome = Outcome(stored) if stored in set(Outcome) else Outcome.INTERRUPTED
    if stored is None and tags.get(names.TAG_KIND) == names.TRIAL:
        client.set_tag(run_id, names.TAG_REASON, reason)
        client.set_tag(run_id, names.TAG_OUTCOME, outcome.value)
    if names.PARAM_TRIAL not in run.data.params and names.TAG_IDS in tags:
        params = (names.PARAM_TRIAL, names.PARAM_CONFIG)
        for name, value in zip(params, tags[names.TAG_IDS].split(), strict=True):
            client.log_param(run_id, name, value)
    # The last loss that was written is the nearest known time to that of its death.
    points = client.get_metric_history(run_id, "train/loss")
    end = max((point.timestamp for point in points), default=run.info.start_time)
    client.set_terminated(run_id, STATUS[outcome], end_time=int(end))


def _folders_without_run(store: Store) -> list[Path]:
    home = None if store.artifacts is None else local_path(store.artifacts)
    if home is None:
        return []
    folders = [path for path in sorted(home.glob("*")) if _RUN_FOLDER.fullmatch(path.name)]
    try:
        # All databases of a folder keep their files in one place.
        beside = (path for path in store.home.iterdir() if not path.name.endswith(_NOT_DATABASES))
        databases = [path for path in beside if path.is_file()]
        known = {run_id for path in databases for run_id in TableReader(path).run_ids()}
    except (sqlite3.Error, OSError):
        return []  # A database that cannot be read may have these runs.
    return [
        folder
        for folder in folders
        if folder.name not in known
        and all(
            _WRITTEN_FIRST.fullmatch(path.name) for path in folder.rglob("*") if not path.is_dir()
        )
    ]
