"""What all tests share: quiet libraries, one thread each, and where real data lies."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

# Before torch or mlflow is imported by anything.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.pop("MLFLOW_TRACKING_URI", None)

import pytest
from hypothesis import HealthCheck, settings

# A busy machine is no fault. CI draws the same cases each time: a new one is found at a desk, where
# it can be looked at.
settings.register_profile(
    "unhurried",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize="CI" in os.environ,
)
settings.load_profile("unhurried")

if TYPE_CHECKING:
    from harness.store.store import Store

REPOSITORY = Path(__file__).resolve().parent.parent
_SHARED = REPOSITORY.parent / "shared" / "data"
if "HARNESS_DATA" not in os.environ:
    os.environ["HARNESS_DATA"] = str(_SHARED if _SHARED.is_dir() else REPOSITORY / "data")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; may be empty."""
    return Path(os.environ["HARNESS_DATA"])


@pytest.fixture(scope="session")
def mnist_root(data_root: Path) -> Path:
    """The data folder where it holds MNIST; tests that ask for it are skipped elsewhere."""
    if not (data_root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        pytest.skip(f"MNIST is not in {data_root} (set HARNESS_DATA)")
    return data_root


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project folder, entered: its own `mlruns/` and `experiments/`."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "experiments").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store without experiments, its write-ahead log folded in so that one file is all: MLflow
    takes seconds to create its tables."""
    from harness.store.store import open_store

    path = tmp_path_factory.mktemp("template") / "mlflow.db"
    open_store(uri=f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return path


@pytest.fixture
def store(workspace: Path, empty_database: Path) -> Store:
    """The default store of a fresh project folder."""
    from harness.store.store import open_store

    shutil.copy(empty_database, workspace / "mlruns" / "mlflow.db")
    return open_store(workspace)
