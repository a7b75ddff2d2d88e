"""The sweep from end to end: with real training, a real store, and processes that are killed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness import compare, search, sweep
from harness.components.datasets.mnist import MNISTFamily
from harness.store.names import TAG_KIND, TAG_OUTCOME, TAG_REASON, TAG_SUPERSEDED, TRIAL

FILE = """\
name: small
trial: {dataset: iris, model: perceptron, epochs: 2, batch_size: 32}
grid:
  optimizer: [sgd, adam]
  lr: [0.01, 0.1]
  seed: [0, 1]
skip:
  - {when: {optimizer: adam, lr: 0.1}, because: too high for adam}
artifacts: none
"""
ENDLESS = """\
name: endless
trial: {dataset: iris, model: perceptron, optimizer: sgd, epochs: 1000000, eval_every: 1000}
grid: {lr: [0.01, 0.1, 1]}
artifacts: none
"""


IMAGES = """\
trial: {dataset: mnist, model: mlp, optimizer: sgd, lr: 0.1}
search: {trials: 1, space: {lr: {low: 0.01, high: 1}}}
"""


@pytest.fixture
def project(workspace: Path) -> Path:
    (workspace / "small.yaml").write_text(FILE)
    (workspace / "endless.yaml").write_text(ENDLESS)
    return workspace


def run(*arguments: str) -> int:
    return sweep.main([*arguments, "--executor", "inline", "--no-compare"])


def runs(project: Path, name: str, kind: str = TRIAL) -> list[object]:
    """Returns an experiment's runs of a kind, read with MLflow's client."""
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    return [
        found
        for found in client.search_runs([experiment.experiment_id])
        if found.data.tags[TAG_KIND] == kind
    ]


def statuses(project: Path, name: str) -> Counter[str]:
    return Counter(found.info.status for found in runs(project, name))  # type: ignore[attr-defined]


def test_trains_each_trial_once(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("small.yaml") == 0
    assert "6 trials (2 combinations skipped); 6 to run" in capsys.readouterr().out
    assert statuses(project, "small") == {"FINISHED": 6}

    assert run("small.yaml") == 0
    assert "already in the store: 6 done; nothing to run" in capsys.readouterr().out
    assert len(runs(project, "small", "sweep")) == 1, "nothing to train needs no parent run"

    assert run("small.yaml", "grid.lr=[0.01, 0.1, 0.5]") == 0
    assert "6 done; 4 to run" in capsys.readouterr().out
    assert statuses(project, "small") == {"FINISHED": 10}


@pytest.mark.slow
def test_prints_how_trials_compare(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep.main(["small.yaml", "--workers", "2"]) == 0
    output = capsys.readouterr().out
    assert "2 workers, 1 thread each" in output
    assert "Best learning rates" in output
    assert "leads with val/accuracy" in output
    assert "make ui" in output


def test_rerun_replaces_earlier_runs(project: Path) -> None:
    run("small.yaml", "grid.lr=[0.01]", "grid.optimizer=[sgd]", "seed=0")
    run("small.yaml", "grid.lr=[0.01]", "grid.optimizer=[sgd]", "seed=0", "--rerun")
    found = runs(project, "small")
    assert len(found) == 2
    assert sum(TAG_SUPERSEDED in one.data.tags for one in found) == 1  # type: ignore[attr-defined]


@pytest.mark.slow
def test_failed_trials_are_trained_again_only_if_asked(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # So wide a layer passes validation and fails in torch, as a user's model would.
    broken = ("small.yaml", "model={name: mlp, hidden: [1125899906842624]}", "seed=0", "lr=0.01")
    assert run(*broken) == 1
    output = capsys.readouterr().out
    assert "failed: sgd" in output
    assert "RuntimeError" in output
    assert statuses(project, "small") == {"FAILED": 2}
    assert run(*broken) == 1
    assert "2 failed; nothing to run" in capsys.readouterr().out
    assert run(*broken, "--retry-failed") == 1
    assert statuses(project, "small") == {"FAILED": 4}


def test_diverged_trials_are_finished(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diverging = ("small.yaml", "lr=1e30", "optimizer=sgd", "loss=nll", "model=mlp", "seed=0")
    assert run(*diverging) == 0
    assert "diverged: " in capsys.readouterr().out
    (found,) = runs(project, "small")
    assert found.data.tags[TAG_OUTCOME] == "diverged"  # type: ignore[attr-defined]
    assert run(*diverging) == 0
    assert "1 diverged; nothing to run" in capsys.readouterr().out


def test_a_dry_run_touches_nothing(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("small.yaml", "--dry-run") == 0
    output = capsys.readouterr().out.splitlines()
    assert len([line for line in output if line.startswith("skipped")]) == 2
    assert "too high for adam" in output[-2]
    assert output[-1].startswith("small: 6 trials of 3 configs, 2 combinations skipped")
    assert list((project / "mlruns").iterdir()) == []


FIVE_MISTAKES = """\
name: mistaken
trial:
  dataset: digitz
  epoch: 3
grid:
  model: [mlp, cnm]
  optimizer: [sgd, {name: adam, momentum: 0.9}]
  lr: [0.1, -0.01]
"""


def test_all_mistakes_are_reported_at_once(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "mistaken.yaml").write_text(FIVE_MISTAKES)
    assert run("mistaken.yaml") == 2
    output = capsys.readouterr().err
    assert "5 problems" in output
    for line, near in ((3, "digits"), (4, "epochs"), (6, "cnn"), (7, "betas"), (8, "-0.01")):
        (found,) = (part for part in output.split("mistaken.yaml:") if part.startswith(f"{line}:"))
        assert near in found
    assert "Traceback" not in output
    assert list((project / "mlruns").iterdir()) == []


def test_missing_data_names_the_file_wanted_and_where(
    project: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_DATA", str(project / "nothing"))
    assert run("small.yaml", "dataset={name: mnist, download: false}", "model=mlp") == 2
    output = capsys.readouterr().err
    assert "train-images-idx3-ubyte" in output
    assert str(project / "nothing") in output
    assert "HARNESS_DATA" in output
    assert list((project / "mlruns").iterdir()) == []


@pytest.mark.parametrize("command", [sweep, search])
def test_a_dry_run_downloads_nothing(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    command: ModuleType,
) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(MNISTFamily, "_download", lambda self, folder: asked.append(folder))
    monkeypatch.setenv("HARNESS_DATA", str(project / "nothing"))
    (project / "images.yaml").write_text(IMAGES)
    assert command.main(["images.yaml", "--dry-run"]) == 2
    output = capsys.readouterr().err
    assert "train-images-idx3-ubyte does not exist, and a dry run downloads nothing" in output
    assert asked == []
    assert not (project / "nothing").exists()


def test_an_absent_device_is_refused_before_anything_runs(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("small.yaml", "grid.device=[cpu, 'cuda:63']") == 2
    output = capsys.readouterr().err
    assert "'cuda:63' is not available on this machine" in output
    assert "this machine has: cpu" in output
    assert not (project / "mlruns" / "mlflow.db").exists()


def test_contradicting_flags_are_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("small.yaml", "--workers", "3") == 2
    assert "one trial at a time" in capsys.readouterr().err


def test_an_absent_file_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("nowhere.yaml") == 2
    assert "nowhere.yaml" in capsys.readouterr().err


@pytest.fixture
def endless(project: Path) -> Iterator[subprocess.Popen[str]]:
    """Yields a sweep in a process of its own, once it trains; it would train for hours."""
    started = subprocess.Popen(
        [sys.executable, "-m", "harness.sweep", "endless.yaml", "--workers", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 180
    while not (project / "mlruns/mlflow.db").is_file() or _running(project) != 2:
        assert started.poll() is None, started.stdout and started.stdout.read()
        assert time.monotonic() < deadline, "the sweep has not begun to train"
        time.sleep(0.2)
    yield started
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def _running(project: Path) -> int:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(project / "mlruns/mlflow.db", timeout=10)) as store:
        try:
            query = "SELECT count(*) FROM runs WHERE status = 'RUNNING' AND name LIKE 'lr=%'"
            return int(store.execute(query).fetchone()[0])
        except sqlite3.OperationalError:
            return 0


def _gone(group: int) -> bool:
    """Whether no process of a group is left within a minute: the machine may be busy."""
    for _ in range(600):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_an_interrupted_sweep_says_so_and_can_continue(
    project: Path, endless: subprocess.Popen[str], number: signal.Signals
) -> None:
    endless.send_signal(number)
    output, _ = endless.communicate(timeout=120)
    assert endless.returncode == 130, output
    assert "Traceback" not in output
    assert "run the same command again" in output
    assert statuses(project, "endless") == {"KILLED": 2}
    reasons = {found.data.tags[TAG_REASON] for found in runs(project, "endless")}  # type: ignore[attr-defined]
    assert all("interrupted" in reason for reason in reasons)
    (parent,) = runs(project, "endless", "sweep")
    assert parent.info.status == "KILLED"  # type: ignore[attr-defined]
    assert _gone(endless.pid)
    assert run("endless.yaml", "epochs=1") == 0


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_worker_behind(
    project: Path, endless: subprocess.Popen[str]
) -> None:
    endless.kill()
    endless.wait()
    assert _gone(endless.pid)
    assert statuses(project, "endless") == {"RUNNING": 2}
    assert run("endless.yaml", "epochs=1") == 0
    assert statuses(project, "endless") == {"KILLED": 2, "FINISHED": 3}


@pytest.mark.parametrize("module", ["sweep", "compare", "predict", "doctor"])
def test_help_imports_nothing_heavy(module: str) -> None:
    code = (
        "import sys, contextlib, importlib\n"
        f"main = importlib.import_module('harness.{module}').main\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main(['--help'])\n"
        "heavy = {'torch', 'mlflow', 'pandas', 'numpy', 'pydantic', 'rich', 'yaml', 'sklearn'}\n"
        "found = heavy & set(sys.modules)\n"
        "assert not found, found\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_finished_sweep_is_no_failure_where_the_output_is_not_utf_8(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))

    assert sweep.main(["small.yaml", "epochs=1", "--executor", "inline"]) == 0

    sys.stdout.flush()
    text = written.getvalue().decode("ascii")
    assert "6 trials (6 done)" in " ".join(text.split())
    assert "Next: `make ui` shows every run" in text


def test_the_best_epoch_of_a_training_metric_is_one_that_was_evaluated(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Training metrics are measured after each epoch, and those of the test split at evaluations:
    the means of both are over all seeds, in stores of earlier versions too."""
    from harness.store.read.results import read_results
    from harness.store.store import open_existing_store

    changed = ("metric=train/loss", "eval_every=3", "epochs=5", "lr=0.1", "optimizer=sgd")
    run("small.yaml", *changed, "seed=[0, 1, 2, 3, 4, 5]", "batch_size=8", "val_fraction=0.5")
    store = open_existing_store()
    stored = read_results(store, "small").trials
    assert set(stored["best/epoch"]) <= {3, 5}
    for run_id in stored["run_id"]:  # As a version before chose it.
        store.client.log_metric(run_id, "best/epoch", 4)
        store.client.log_metric(run_id, "best/train/loss", 0.001)

    again = read_results(store, "small").trials
    for name in ("best/epoch", "best/train/loss", "best/test/accuracy"):
        assert list(again[name]) == list(stored[name])
    capsys.readouterr()
    assert compare.main(["small", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["experiments"][0]["leaderboard"]["rows"]
    assert (row["n"], row["test_n"], row["trials"]) == (6, 6, 6)


def test_a_changed_goal_applies_to_trials_that_ran_before(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Best epochs and times to target are never those of another metric or target."""
    from harness.core.metrics import Goal, summarise_trial
    from harness.store.read.results import read_results
    from harness.store.read.run_details import read_history
    from harness.store.store import open_existing_store

    some = ("small.yaml", "optimizer=sgd", "lr=0.1", "epochs=8")
    run(*some, "target=0.1")
    capsys.readouterr()
    assert sweep.main([*some, "metric=val/loss", "target=0.9", "--executor", "inline"]) == 0
    output = " ".join(capsys.readouterr().out.split())
    assert "nothing to run" in output
    assert "Ranked on val/loss (lower is better) at each trial's best epoch by val/loss" in output

    store, goal = open_existing_store(), Goal("val/loss", "min", 0.9)
    results = read_results(store, "small", goal)
    assert (results.metric, results.target) == ("val/loss", 0.9)
    assert len(results.trials) == 2
    for _, trial in results.trials.iterrows():
        history = read_history(store, trial["run_id"], ["val/loss", "test/loss"])
        wanted = summarise_trial(history, {}, goal)
        for name in ("best/val/loss", "best/test/loss", "best/epoch"):
            assert trial[name] == wanted[name]
        assert trial["epochs_to_target"] == wanted["epochs_to_target"] > 0
    before = read_results(store, "small")
    assert before.metric == "val/accuracy"
    assert (before.trials["epochs_to_target"] == 1).all()
