"""Closes runs that a dead process left open; MLflow would show them as running for ever."""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlparse

from harness.core.records import Outcome
from harness.store import names
from harness.store.coordination.processes import is_dead, no_active_writers
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.write.trial_run import STATUS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000


def clean_up_after_dead_processes(store: Store, experiment_id: str) -> None:
    """What processes that were killed left of an experiment: their open runs are closed, and files
    of runs that they never came to write removed."""
    if close_dead_runs(store, experiment_id):
        remove_orphaned_folders(store)


def close_dead_runs(store: Store, experiment_id: str) -> int:
    """Close each running run whose process is known to be dead: as it ended where it says so,
    else as interrupted. Returns how many. Runs of other hosts are left alone."""
    dead = [
        run
        for run in running_runs(store, experiment_id)
        if is_dead(run.data.tags.get(names.TAG_PROCESS, ""))
    ]
    for run in dead:
        close_run(store, run, "its process died")
    return len(dead)


def running_runs(store: Store, experiment_id: str, also: str = "") -> list[Run]:
    """An experiment's runs that MLflow shows as running. also: a further condition, in MLflow's
    language."""
    condition = "attributes.status = 'RUNNING'" + (f" AND {also}" if also else "")
    found: list[Run] = []
    token: str | None = None
    while True:
        page = with_retries(
            f"read {store.label}",
            partial(
                store.client.search_runs,
                [experiment_id],
                filter_string=condition,
                max_results=PAGE,
                page_token=token,
            ),
        )
        found += page
        token = page.token
        if not token:
            return found


def close_run(store: Store, run: Run, why: str) -> None:
    """End a run whose harness is gone: as it ended where it says so, else as interrupted."""
    with_retries("close a run", lambda: _close(store.client, run, why))


def _close(client: MlflowClient, run: Run, why: str) -> None:
    run_id, tags = run.info.run_id, run.data.tags
    told = tags.get(names.TAG_OUTCOME)
    outcome = Outcome(told) if told in set(Outcome) else Outcome.INTERRUPTED
    if names.TAG_OUTCOME not in tags and tags.get(names.TAG_KIND) == names.TRIAL:
        client.set_tag(run_id, names.TAG_REASON, why)
        client.set_tag(run_id, names.TAG_OUTCOME, outcome.value)
    if names.PARAM_TRIAL not in run.data.params and names.TAG_IDS in tags:
        ids = zip((names.PARAM_TRIAL, names.PARAM_CONFIG), tags[names.TAG_IDS].split(), strict=True)
        for name, value in ids:
            client.log_param(run_id, name, value)
    client.set_terminated(run_id, STATUS[outcome], end_time=_last_seen(client, run))


def _last_seen(client: MlflowClient, run: Run) -> int:
    """When the run last wrote a loss: the nearest that is known to when it died."""
    points = client.get_metric_history(run.info.run_id, "train/loss")
    return int(max((point.timestamp for point in points), default=run.info.start_time))


_RUN = re.compile(r"[0-9a-f]{32}")
_EARLY = re.compile(r"provenance\.json|traceback\.txt|\..*\.partial")
"""What is written before its run."""
_BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""Ends of the names of what SQLite, and the store, keep beside a database."""


def orphaned_folders(store: Store) -> list[Path]:
    """The folders of such runs beside a store that is a file. None while anybody writes: what he
    has stored and not yet told of looks the same."""
    with no_active_writers(store.claims_folder) as is_alone:
        found = _found(store)
        return found if is_alone() else []


def remove_orphaned_folders(store: Store) -> int:
    """Remove them. Returns how many."""
    with no_active_writers(store.claims_folder) as is_alone:
        found = _found(store)
        if not is_alone():
            return 0
        for folder in found:
            shutil.rmtree(folder, ignore_errors=True)
        return len(found)


def _found(store: Store) -> list[Path]:
    if store.database is None or store.artifacts is None:
        return []
    home = Path(unquote(urlparse(store.artifacts).path))
    folders = [path for path in sorted(home.glob("*")) if _RUN.fullmatch(path.name)]
    try:
        # All databases of a folder share the place of their files.
        others = (path for path in store.home.iterdir() if not path.name.endswith(_BESIDE))
        known = {run_id for path in others if path.is_file() for run_id in _runs(path)}
    except (sqlite3.Error, OSError):
        return []  # Not knowing, one removes nothing.
    return [folder for folder in folders if folder.name not in known and _is_early(folder)]


def _runs(path: Path) -> list[str]:
    """The ids of MLflow's runs in a database, deleted ones too; none where it is none.

    Asked of SQLite alone: to open and close a database as a file would drop the locks that this
    process has on it, and let others truncate what it has mapped.
    """
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=20)) as reader:
        try:
            table = reader.execute("SELECT 1 FROM sqlite_schema WHERE name = 'runs'").fetchone()
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                return []
            raise
        return [row[0] for row in reader.execute("SELECT run_uuid FROM runs")] if table else []


def _is_early(folder: Path) -> bool:
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    return all(_EARLY.fullmatch(path.name) for path in files)
