"""`--fuse` from the command line to the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import sweep
from harness.core.metrics import MACHINE_DEPENDENT
from harness.store.names import TAG_KIND, TAG_NOT_STACKED, TAG_STACK_SIZE, TRIAL

FILE = """\
name: stacked
trial: {dataset: iris, model: {name: mlp, hidden: [8]}, epochs: 3, batch_size: 16}
grid:
  precision: [fp32, bf16]
  optimizer: [sgd, adam]
  lr: [0.01, 0.1]
  seed: [0, 1]
artifacts: none
"""
LONELY = """\
skip:
  - {when: {precision: bf16, optimizer: adam}, because: one is enough}
  - {when: {precision: bf16, lr: 0.1}, because: one is enough}
  - {when: {precision: bf16, seed: 1}, because: one is enough}
"""
"""Leaves one trial that cannot be stacked with another."""
TOLERANCE = {"fp32": 1e-3, "bf16": 3e-2}


def run(workspace: Path, *arguments: str, file: str = FILE) -> int:
    (workspace / "stacked.yaml").write_text(file)
    return sweep.main(["stacked.yaml", "--executor", "inline", "--no-compare", *arguments])


def runs(workspace: Path) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{workspace}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("stacked")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    return [one for one in found if one.data.tags[TAG_KIND] == TRIAL]


def by_trial(workspace: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Returns each trial's metrics, by its id and precision."""
    return {
        (one.data.params["trial_id"], one.data.params["precision"]): {
            name: value
            for name, value in one.data.metrics.items()
            if not name.startswith(MACHINE_DEPENDENT)
        }
        for one in runs(workspace)
    }


@pytest.mark.slow
def test_stacked_trials_and_single_ones_store_the_same(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(workspace, "--fuse", "3") == 0
    other = tmp_path_factory.mktemp("alone")
    (other / "mlruns").mkdir()
    monkeypatch.chdir(other)
    assert run(other) == 0
    stacked, alone = by_trial(workspace), by_trial(other)
    assert len(stacked) == 16
    assert set(stacked) == set(alone)
    for (trial_id, precision), metrics in alone.items():
        near = TOLERANCE[precision]
        assert stacked[trial_id, precision] == pytest.approx(metrics, rel=near, abs=near)


def test_a_run_says_whether_it_was_stacked(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(workspace, "--fuse", "3", file=FILE + LONELY) == 0
    output = capsys.readouterr().out
    assert "2 stacks of 3 trials, 1 stack of 2 trials" in output
    assert "one by one: 1 trial: no other trial is like it" in output
    for one in runs(workspace):
        assert (TAG_STACK_SIZE in one.data.tags) == (one.data.params["precision"] == "fp32")
        assert TAG_NOT_STACKED not in one.data.tags
    sizes = [
        one.data.tags[TAG_STACK_SIZE] for one in runs(workspace) if TAG_STACK_SIZE in one.data.tags
    ]
    assert sorted(sizes) == ["2", "2", *["3"] * 6]


def test_a_dry_run_prints_the_stacks_and_trains_nothing(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(workspace, "--fuse", "auto", "--dry-run", file=FILE + LONELY) == 0
    assert "1 stack of 8 trials\ntrained one by one: 1 trial:" in capsys.readouterr().out
    assert not list((workspace / "mlruns").iterdir())


def test_ray_refuses_stacks(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (workspace / "stacked.yaml").write_text(FILE)
    assert sweep.main(["stacked.yaml", "--fuse", "4", "--executor", "ray"]) == 2
    assert "--fuse" in capsys.readouterr().err
