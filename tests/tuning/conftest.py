"""Project folders for searches."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.runner import search as session


@pytest.fixture
def project(workspace: Path, empty_database: Path) -> Path:
    """A new project folder with an empty store; the current folder."""
    shutil.copy(empty_database, workspace / "mlruns" / "mlflow.db")
    return workspace


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips figures, which take seconds and have a test of their own."""
    monkeypatch.setattr(session, "_figures", lambda *_: None)
