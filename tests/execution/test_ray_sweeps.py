"""One experiment with every executor, as separate commands, and what its runs say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from harness.core.metrics import MACHINE_DEPENDENT
from harness.store.names import PARAM_TRIAL, TAG_EXCLUSIVE, TAG_KIND, TRIAL

pytest.importorskip("ray", reason="Ray is not installed (pip install 'harness[ray]')")
pytestmark = pytest.mark.slow

FILE = """\
name: alike
trial: {dataset: digits, model: {name: mlp, hidden: [16], dropout: 0.2}, lr: 0.1, epochs: 2}
grid: {optimizer: [adam, momentum], seed: [0, 1]}
artifacts: none
"""


def swept(folder: Path, *options: str) -> dict[str, Run]:
    folder.mkdir()
    (folder / "mlruns").mkdir()
    (folder / "alike.yaml").write_text(FILE)
    command = [sys.executable, "-m", "harness.sweep", "alike.yaml", "--no-compare", "--fuse", "off"]
    done = subprocess.run(
        [*command, *options], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    client = MlflowClient(f"sqlite:///{folder}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("alike")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    trials = [run for run in runs if run.data.tags[TAG_KIND] == TRIAL]
    assert [run.info.status for run in trials] == ["FINISHED"] * 4
    return {run.data.params[PARAM_TRIAL]: run for run in trials}


def measured(runs: dict[str, Run]) -> dict[str, dict[str, float]]:
    return {
        trial: {k: v for k, v in run.data.metrics.items() if not k.startswith(MACHINE_DEPENDENT)}
        for trial, run in runs.items()
    }


def said(runs: dict[str, Run]) -> set[str]:
    return {run.data.tags[TAG_EXCLUSIVE] for run in runs.values()}


def test_every_executor_leaves_the_same_results(tmp_path: Path) -> None:
    """On Ray too, only trials that train one at a time say that they had their device."""
    inline = swept(tmp_path / "inline", "--executor", "inline")
    process = swept(tmp_path / "process", "--executor", "process", "--workers", "2")
    ray = swept(tmp_path / "ray", "--executor", "ray", "--workers", "2")
    alone = swept(tmp_path / "alone", "--executor", "ray", "--workers", "1")
    assert len(inline) == 4
    assert measured(inline) == measured(process) == measured(ray) == measured(alone)
    assert said(inline) == said(alone) == {"true"}
    assert said(process) == said(ray) == {"false"}
