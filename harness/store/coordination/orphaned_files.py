"""Files of runs that never came to be: their process was killed between writing a run's files and
writing the run.

Writers store files first, so that no finished run lacks them.
"""

from __future__ import annotations

import re
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlparse

from harness.store.coordination.presence import alone
from harness.store.store import Store

_RUN = re.compile(r"[0-9a-f]{32}")
_EARLY = re.compile(r"provenance\.json|traceback\.txt|\..*\.partial")
"""What is written before its run."""
_BESIDE = ("-wal", "-shm", "-journal", ".lock")
"""Ends of the names of what SQLite, and the store, keep beside a database."""


def strays(store: Store) -> list[Path]:
    """The folders of such runs beside a store that is a file. None while anybody writes: what he
    has stored and not yet told of looks the same."""
    with alone(store.writers) as is_alone:
        found = _found(store)
        return found if is_alone() else []


def remove_strays(store: Store) -> int:
    """Remove them. Returns how many."""
    with alone(store.writers) as is_alone:
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
