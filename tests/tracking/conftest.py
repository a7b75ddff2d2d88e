"""A real MLflow store for each test, quick because MLflow creates its tables once a session."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.tracking.store import Store, open_store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without experiments, its write-ahead log folded in so that one file is all."""
    import sqlite3
    from contextlib import closing

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_store(uri=f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def store(workspace: Path, empty_database: Path) -> Store:
    """The default store of a fresh project folder."""
    shutil.copy(empty_database, workspace / "mlruns" / "mlflow.db")
    return open_store(workspace)
