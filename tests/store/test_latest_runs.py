"""What a store holds, seen before it is open."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness import sweep
from harness.store.store import latest_runs_without_mlflow, open_store

FILE = """\
name: small
trial: {dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 1}
grid: {seed: [0, 1]}
artifacts: none
"""


def test_latest_runs_are_the_same_without_mlflow(workspace: Path) -> None:
    (workspace / "small.yaml").write_text(FILE)
    assert sweep.main(["small.yaml", "--executor", "inline", "--no-compare"]) == 0
    store = open_store()
    seen = latest_runs_without_mlflow("small")
    assert seen == store.latest_runs(store.experiment("small"))
    assert seen is not None
    assert len(seen) == 2
    assert latest_runs_without_mlflow("another") == {}


def test_reading_without_mlflow_creates_no_store(workspace: Path) -> None:
    assert latest_runs_without_mlflow("small") == {}
    assert not (workspace / "mlruns" / "mlflow.db").exists()


def test_none_without_mlflow_if_the_tables_are_not_known(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert latest_runs_without_mlflow("small") is None
    other = workspace / "other.db"
    other.write_bytes(b"no database")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert latest_runs_without_mlflow("small") is None
