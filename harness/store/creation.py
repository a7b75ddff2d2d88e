"""Creates a store's SQLite file, so that a process killed meanwhile leaves no half of one.

MLflow makes its tables in many steps, and cannot go on where a process was killed between two. The
file is therefore made under another name, and renamed once it is complete.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from harness.core.errors import StoreError
from harness.core.files import file_lock
from harness.store.read.tables import TableReader
from harness.store.retry import describe_error
from harness.store.uris import sqlite_uri

LOCK_SECONDS = 120.0
"""How long to wait for another process that is opening the store."""
UNFINISHED = ".creating"
"""End of the name of a file that is not complete yet."""
BROKEN = ".broken"
"""End of the name under which a rebuilt store's half-made file is kept."""
_PARTS = ("", "-wal", "-shm", "-journal")


@contextmanager
def opening_lock(path: Path) -> Iterator[None]:
    """Keeps other processes from creating or opening the store: two that create the tables at once
    break each other. Raises StoreError if another process keeps it too long."""
    lock = path.with_name(path.name + ".lock")
    try:
        with file_lock(lock, LOCK_SECONDS):
            yield
    except TimeoutError:
        raise StoreError(f"another process has been opening the store too long: {lock}") from None


def create_if_missing(path: Path) -> None:
    """Creates the file with MLflow's tables if it is missing or empty. The caller has the lock.

    Removes what an earlier process left that was killed here.
    """
    if path.is_file() and path.stat().st_size:
        return
    unfinished = path.with_name(path.name + UNFINISHED)
    _remove(unfinished)
    _make_tables(unfinished, artifacts_of(path))
    unfinished.replace(path)


def artifacts_of(path: Path) -> str:
    """Returns the address of the folder for the files of a SQLite store's runs."""
    return (path.parent / "artifacts").as_uri()


def count_runs(path: Path) -> int | None:
    """Returns how many runs a file has whose tables MLflow cannot open, or None if it is no
    database of MLflow's, or cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            query = "SELECT COUNT(*) FROM sqlite_schema WHERE name IN ('experiments', 'runs')"
            if connection.execute(query).fetchone()[0] == 0:
                return None
        return len(TableReader(path).run_ids())
    except sqlite3.Error:
        return None


def rebuild(path: Path) -> Path:
    """Makes a new store in place of one without runs. Returns where the old file is kept.

    Raises StoreError if it has runs.
    """
    with opening_lock(path):
        if count_runs(path) != 0:
            raise StoreError(f"{path} has runs: it is left as it is")
        kept = path.with_name(path.name + BROKEN)
        _remove(kept)
        for part in reversed(_PARTS):
            beside = path.with_name(path.name + part)
            if beside.is_file():
                beside.replace(kept.with_name(kept.name + part))
        create_if_missing(path)
    return kept


def _make_tables(path: Path, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    try:
        store = SqlAlchemyStore(  # type: ignore[no-untyped-call]
            sqlite_uri(path), artifacts
        )
    except Exception as error:  # noqa: BLE001 - drivers raise what they like
        raise StoreError(f"cannot create the store {path}: {describe_error(error)}") from None
    store.engine.dispose()


def _remove(path: Path) -> None:
    for part in _PARTS:
        path.with_name(path.name + part).unlink(missing_ok=True)
