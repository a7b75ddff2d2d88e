"""Searches in a project folder of their own, with MLflow's tables made once a session."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.search import session
from harness.tracking.store import open_store


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without experiments, its write-ahead log folded in so that one file is all."""
    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_store(uri=f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def project(workspace: Path, empty_database: Path) -> Path:
    """A fresh project folder, entered, with an empty store."""
    shutil.copy(empty_database, workspace / "mlruns" / "mlflow.db")
    return workspace


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take seconds and are tested by themselves."""
    monkeypatch.setattr(session, "_figures", lambda *_: None)
