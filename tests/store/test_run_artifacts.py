from __future__ import annotations

import csv
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.components.base import DataInfo, Task
from harness.core.records import TestOutputs
from harness.store.artifacts.best_trials import TrialOutputs
from harness.store.artifacts.figures import predictions
from harness.store.artifacts.trial_files import log_model, rebuild, write_predictions
from harness.store.store import Store, open_store
from tests.store.store_support import children, digits, done, made_outputs, make_plan, write

EVIL = "../../<script>alert(1)</script> $\\frac{=cmd()"
TRIAL = digits()


@dataclass(frozen=True)
class Stored:
    """A sweep of one trial with artifacts, its name a trap. folder: the run's files."""

    store: Store
    run_id: str
    tags: dict[str, str]
    folder: Path
    test_outputs: TestOutputs
    root: Path


@pytest.fixture(scope="module")
def stored(empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Stored:
    root = tmp_path_factory.mktemp("project")
    (root / "mlruns").mkdir()
    shutil.copy(empty_database, root / "mlruns" / "mlflow.db")
    store = open_store(root)
    shown = made_outputs(TRIAL)
    write(store, make_plan([TRIAL], [EVIL], artifacts="all"), {0: done(0.8, shown)})
    run = children(store)[EVIL]
    folder = Path(store.client.download_artifacts(run.info.run_id, ""))
    return Stored(store, run.info.run_id, run.data.tags, folder, shown, root)


def test_a_best_trial_has_its_files(stored: Stored) -> None:
    assert stored.tags["harness.artifacts"] == "complete"
    files = {str(p.relative_to(stored.folder)) for p in stored.folder.rglob("*") if p.is_file()}
    assert files == {
        "figures/accuracy.png",
        "figures/confusion_matrix.png",
        "figures/loss.png",
        "figures/roc.png",
        "figures/sample_images.png",
        "predictions.csv",
        "provenance.json",
        "weights/state_dict.pt",
        "weights/state_dict.pt.sha256",
    }


def test_names_never_become_paths(stored: Stored) -> None:
    assert [p for p in stored.root.rglob("*") if "script" in p.name or "cmd" in p.name] == []
    assert {p.name for p in stored.root.iterdir()} == {"mlruns"}


def test_weights_load_without_pickle_and_match_their_checksum(stored: Stored) -> None:
    path = stored.folder / "weights" / "state_dict.pt"
    loaded, given = torch.load(path, weights_only=True), stored.test_outputs.state_dict
    assert loaded.keys() == given.keys()
    assert all(torch.equal(loaded[name], given[name]) for name in loaded)
    told, name = path.with_suffix(".pt.sha256").read_text().split()
    assert (told, name) == (hashlib.sha256(path.read_bytes()).hexdigest(), path.name)


def test_mlflow_loads_the_model(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", stored.store.uri)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    info = TRIAL.dataset.component.info(TRIAL.dataset.options, Path())
    network = rebuild(TRIAL, info, stored.test_outputs.state_dict)
    inputs = torch.rand(7, *info.shape)
    outputs = stored.store.client.get_run(stored.run_id).outputs
    assert outputs is not None
    (output,) = outputs.model_outputs
    for uri in (f"runs:/{stored.run_id}/model", f"models:/{output.model_id}"):
        loaded = mlflow.pytorch.load_model(uri)
        torch.testing.assert_close(loaded(inputs), network(inputs))
        assert loaded(inputs[:1]).shape == (1, 10)
    signature = mlflow.models.get_model_info(f"models:/{output.model_id}").signature
    assert signature.inputs.inputs[0].shape == (-1, *info.shape)


def test_logging_a_model_leaves_global_state_alone(stored: Stored) -> None:
    import mlflow

    before = mlflow.get_tracking_uri(), torch.get_rng_state()
    plan = make_plan([TRIAL])
    info = TRIAL.dataset.component.info(TRIAL.dataset.options, Path())
    log_model(
        stored.store,
        plan.trials[0],
        info,
        TrialOutputs("00", stored.run_id, (), stored.test_outputs),
    )
    assert mlflow.get_tracking_uri() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert mlflow.active_run() is None


def test_an_artifact_that_fails_is_reported_and_the_others_are_stored(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*arguments: object) -> None:
        raise RuntimeError("this graph cannot be exported")

    monkeypatch.setattr("harness.store.artifacts.trial_files.log_model", broken)
    monkeypatch.setattr("harness.store.artifacts.trial_files.draw_figures", lambda *arguments: None)
    plan = make_plan([TRIAL], artifacts="all")
    write(store, plan, {0: done(0.8, made_outputs(TRIAL))})
    run = children(store)["trial 0"]
    assert run.data.tags["harness.outcome"] == "done"
    assert run.data.tags["harness.artifacts"] == (
        "without model (RuntimeError: this graph cannot be exported)"
    )
    assert "this graph cannot be exported" in caplog.text
    assert store.client.list_artifacts(run.info.run_id, "weights")


def rows(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_predictions_of_classes(tmp_path: Path) -> None:
    info = DataInfo(Task.MULTICLASS, (4,), ("cat", "=cmd()", "@x"))
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 0.5]])
    shown = TestOutputs({}, logits, torch.tensor([0, 1, 0]), torch.zeros(3, 4))
    write_predictions(tmp_path / "p.csv", predictions(info, shown))
    first = np.exp(2) / (np.exp(2) + np.exp(1) + 1)
    assert rows(tmp_path / "p.csv") == [
        ["example", "true", "predicted", "probability"],
        ["0", "cat", "cat", str(round(first, 6))],
        ["1", "'=cmd()", "'=cmd()", str(round(np.exp(3) / (np.exp(3) + 2), 6))],
        ["2", "cat", "'@x", str(round(np.exp(0.5) / (np.exp(0.5) + 2), 6))],
    ]


def test_predictions_of_values(tmp_path: Path) -> None:
    info = DataInfo(Task.REGRESSION, (4,), targets=2)
    shown = TestOutputs(
        {}, torch.tensor([[-1.5, 2.0]]), torch.tensor([[-1.0, 2.5]]), torch.zeros(1, 4)
    )
    write_predictions(tmp_path / "p.csv", predictions(info, shown))
    assert rows(tmp_path / "p.csv") == [
        ["example", "true_1", "true_2", "predicted_1", "predicted_2"],
        ["0", "-1.0", "2.5", "-1.5", "2.0"],
    ]
