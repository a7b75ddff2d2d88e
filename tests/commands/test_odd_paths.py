"""Every command works in a project whose path has characters that mean something elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from urllib.request import Request, urlopen

import pytest

from harness import compare, doctor, predict, sweep
from harness.core.errors import InputError
from harness.experiment.loading import load
from harness.store.store import Store
from tests.execution.servers import mlflow_server
from tests.store.test_uris import ODD_NAMES
from tests.stored import add, seeds, sweep_run

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENT = """
name: tiny
artifacts: all
trial:
  {dataset: digits, model: {name: mlp, hidden: [8]}, optimizer: sgd, lr: 0.1, epochs: 1}
grid: {seed: [0]}
"""
ALL_AT_ONCE = "50% x%20y?z=1 #h;&'\"é[b]$HOME."


def use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "experiments").mkdir(parents=True)
    (folder / "experiments" / "tiny.yaml").write_text(EXPERIMENT)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def assert_commands_stay_in(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = project.parent
    before = set(top.iterdir())
    assert sweep.main(["experiments/tiny.yaml"]) == 0
    assert "1 trial" in capsys.readouterr().out
    assert sweep.main(["experiments/tiny.yaml", "--no-compare"]) == 0
    assert "already in the store: 1 done" in capsys.readouterr().out
    assert compare.main(["tiny", "--html", "report.html"]) == 0
    assert doctor.main(["--only", "store"]) == 0, capsys.readouterr().out
    assert predict.main(["tiny"]) == 0
    assert set(top.iterdir()) == before, "written outside the project"
    made = {path.name for path in project.iterdir()}
    assert made == {"experiments", "mlruns", "predictions", "report.html"}
    kept = {path.name for path in (project / "mlruns").iterdir()}
    assert {"mlflow.db", "artifacts"} <= kept
    assert not {name for name in kept if name.endswith(".creating")}
    assert list((project / "mlruns" / "artifacts").glob("*/artifacts/provenance.json"))


@pytest.mark.slow
def test_a_project_of_any_name_keeps_all_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "top" / ALL_AT_ONCE
    use(project, monkeypatch)
    assert_commands_stay_in(project, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("name", ODD_NAMES)
def test_each_character_alone(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project = tmp_path / "top" / name
    use(project, monkeypatch)
    assert_commands_stay_in(project, capsys)


@pytest.mark.slow
def test_the_address_that_make_ui_uses_opens_the_same_store_in_mlflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "top" / ALL_AT_ONCE
    use(project, monkeypatch)
    assert sweep.main(["experiments/tiny.yaml", "--no-compare"]) == 0
    command = [sys.executable, "-m", "harness.store.uris"]
    address = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    with mlflow_server(tmp_path, address) as uri:
        search = Request(
            f"{uri}/api/2.0/mlflow/experiments/search",
            data=json.dumps({"max_results": 10}).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urlopen(search, timeout=30) as answer:
            found = {experiment["name"] for experiment in json.load(answer)["experiments"]}
    assert "tiny" in found
    assert [path.name for path in (tmp_path / "top").iterdir()] == [ALL_AT_ONCE]


def test_make_ui_asks_the_harness_for_the_address() -> None:
    command = ["make", "--dry-run", "ui"]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert '"$(.venv/bin/python -m harness.store.uris)"' in shown


@pytest.mark.parametrize("command", [compare, doctor, predict])
def test_a_command_outside_the_project_says_how_to_name_its_store(
    command: ModuleType,
    store: Store,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add(store, "Été 2", [sweep_run(), *seeds([0.5, 0.6])], begin=1)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    assert command.main(["Été 2"]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "run this in its folder, or set MLFLOW_TRACKING_URI to its store" in told
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    arguments = {compare: ["Été 2"], doctor: ["--only", "store", "Été 2"]}.get(command)
    if arguments:  # Nothing has weights to predict with.
        assert command.main(arguments) in (0, 1)
        assert "Été 2" in capsys.readouterr().out
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("name", ["Été 2", "наука", "実験", "a.b-c_d"])
def test_names_have_letters_of_any_script(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"name: {name}\n{EXPERIMENT.partition('tiny')[2]}")
    assert load(tmp_path / "x.yaml").name == name
    (tmp_path / f"{name}.yaml").write_text(EXPERIMENT.replace("name: tiny", ""))
    assert load(tmp_path / f"{name}.yaml").name == name


@pytest.mark.parametrize("name", ["a[1]", "a/b", "(x)", "a?", "x\u202e"])
def test_other_names_are_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(f"name: '{name}'\n{EXPERIMENT.partition('tiny')[2]}")
    with pytest.raises(InputError, match="letters, digits, - _"):
        load(tmp_path / "x.yaml")
