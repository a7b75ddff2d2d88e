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
    """Figures take seconds and are tested by themselves."""
    monkeypatch.setattr(session, "_write_figures", lambda *_: None)
