"""What an experiment has run, seen before its store is open, which takes seconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path

from harness.store.read.index import RunInfo, finished_in_database
from harness.store.store import address, database_of


def glance(experiment: str, root: Path | None = None) -> Mapping[str, RunInfo] | None:
    """As `Store.finished` of the experiment of this name; None where it cannot be told so soon: of
    a server, or of tables that MLflow has yet to bring up to date. Changes nothing.

    root: as for `open_store`.
    """
    database = database_of(address(root))
    if database is None:
        return None
    if not database.exists():
        return {}
    with suppress(sqlite3.Error):
        found = _identifier(database, experiment)
        return {} if found is None else finished_in_database(database, found)
    return None


def _identifier(database: Path, experiment: str) -> str | None:
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=1)) as tables:
        query = "SELECT experiment_id FROM experiments WHERE name = ?"
        row = tables.execute(query, (experiment,)).fetchone()
    return None if row is None else str(row[0])
