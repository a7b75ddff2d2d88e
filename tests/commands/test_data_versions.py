"""A file of data that changes: what compare and predict say, and what a sweep trains on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import compare, sweep
from harness.components.shared.data_files import sha256
from harness.execution import queue
from harness.store.read.results import read_results
from harness.store.read.runs import ClientReader
from harness.store.store import open_store

FILE = """\
name: mine
trial:
  dataset: {{name: csv, path: {path}, target: y}}
  model: {{name: mlp, hidden: [4]}}
  optimizer: sgd
  epochs: 1
  device: cpu
grid: {{lr: [1e-2, 1e-1], seed: [0, 1]}}
"""


def table(flip: bool) -> str:
    """Sixty rows of two classes. flip: whether the labels are the other way round."""
    rows = [f"{i % 7},{i % 5},{'ab'[(i % 2) ^ flip]}" for i in range(60)]
    return "\n".join(["u,v,y", *rows, ""])


def run(path: Path, text: str) -> None:
    path.write_text(text)
    assert sweep.main([str(path), "--executor", "inline", "--no-compare"]) == 0


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A sweep of a file, one of another file with its bytes, and one after the file was edited."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        (folder / "mlruns").mkdir()
        patch.chdir(folder)
        patch.setenv("HARNESS_DATA", str(folder))
        (folder / "t.csv").write_text(table(flip=False))
        (folder / "copy.csv").write_text(table(flip=False))
        run(folder / "e.yaml", FILE.format(path="t.csv"))
        run(folder / "copy.yaml", FILE.format(path="copy.csv").replace("mine", "copied"))
        (folder / "t.csv").write_text(table(flip=True))
        run(folder / "e.yaml", FILE.format(path="t.csv"))
        yield folder


def compared(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert compare.main([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_both_readers_give_the_checksum(project: Path) -> None:
    store = open_store(project)
    experiment = store.experiment("mine", create=False)

    runs = store.runs(experiment)

    assert runs == ClientReader(store).runs(experiment)
    newest = sha256(project / "t.csv")[:32]
    trials = read_results(store, "mine").trials
    assert set(trials["data"]) == {newest, sha256(project / "copy.csv")[:32]}
    assert set(trials["data"].iloc[-4:]) == {newest}


@pytest.mark.slow
def test_by_name_versions_are_apart_and_the_newest_is_current(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new = (sha256(project / name)[:8] for name in ("copy.csv", "t.csv"))

    assert compare.main(["mine"]) == 0

    text = capsys.readouterr().out
    whole = " ".join(text.split())
    listed = f"The data of csv changed: {old} (4 trials), {new} (4 trials, current)."
    assert listed in whole
    assert f"csv @ {old}" in text
    assert f"csv @ {new}" in text


def test_by_file_only_the_present_data_are_compared(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (report,) = compared(capsys, "e.yaml")["experiments"]

    assert report["overview"]["trials"] == 4
    assert report["overview"]["unplanned"] == 4
    assert [version["current"] for version in report["overview"]["versions"]] == [False, True]
    assert {row["dataset"] for row in report["leaderboard"]["rows"]} == {"csv"}


def test_joined_by_name_equal_bytes_compete_and_others_do_not(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = sha256(project / "copy.csv")[:8]

    (report,) = compared(capsys, "mine", "copied", "--join", "--by", "experiment")["experiments"]

    tasks: dict[str, set[str]] = {}
    for row in report["leaderboard"]["rows"]:
        tasks.setdefault(row["task"], set()).add(row["fields"]["experiment"])
    assert tasks.pop(f"csv @ {old}") == {"mine", "copied"}
    assert list(tasks.values()) == [{"mine"}]


@pytest.mark.slow
def test_a_file_that_changes_after_planning_fails_its_trials_and_nothing_else(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers, and a file that is replaced once the first trial was handed out."""
    monkeypatch.setenv("HARNESS_DATA", str(workspace))
    (workspace / "t.csv").write_text(table(flip=False))
    planned = sha256(workspace / "t.csv")
    (workspace / "e.yaml").write_text(FILE.format(path="t.csv"))
    make = queue.make_task

    def replacing(*arguments: Any, **options: Any) -> Any:
        (workspace / "t.csv").write_text(table(flip=True))
        return make(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(queue, "make_task", replacing)
        code = sweep.main(["e.yaml", "--workers", "2", "--fuse", "off", "--no-compare"])

    assert code == 1
    store = open_store(workspace)
    trials = read_results(store, "mine").trials
    assert set(trials["outcome"]) == {"failed"}
    assert all("t.csv changed after the trial was planned" in why for why in trials["reason"])
    assert set(trials["data"]) == {planned[:32]}
    path = store.client.download_artifacts(trials["run_id"].iloc[0], "provenance.json")
    assert json.loads(Path(path).read_text())["dataset_sha256"] == planned
    assert sweep.main(["e.yaml", "--executor", "inline", "--no-compare"]) == 0
    capsys.readouterr()
    assert compare.main(["e.yaml"]) == 0
    assert "4 trials (4 done)" in capsys.readouterr().out
