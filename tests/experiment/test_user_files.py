"""Files that an experiment file names are found beside it first, then below the data folder."""

from __future__ import annotations

import pickle
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import torch
from PIL import Image

from harness.core.errors import InputError
from harness.experiment.loading import load
from harness.experiment.plan import Plan, make_plan
from harness.experiment.trial import Trial
from harness.training.data import load_splits

FILE = """
    trial:
      dataset: {dataset}
      model: {model}
      optimizer: sgd
      lr: 0.1
"""
Folders = tuple[Path, Path]
CSV = "{{name: csv, path: {}, target: y}}"
IMAGES = "{{name: image_folder, path: {}}}"


def write_table(path: Path, rows: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x,y\n" + "".join(f"{n},{'ab'[n % 2]}\n" for n in range(rows)))


def write_images(path: Path, count: int) -> None:
    for name in ("cat", "dog"):
        (path / name).mkdir(parents=True, exist_ok=True)
        for n in range(count // 2):
            Image.new("L", (4, 4), n).save(path / name / f"{n}.png")


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """The folder of the experiment file, and the data folder."""
    for name in ("experiments", "data"):
        (tmp_path / name).mkdir()
    return tmp_path / "experiments", tmp_path / "data"


def plan_of(folders: Folders, dataset: str, model: str = "mlp") -> Plan:
    here, data = folders
    file = here / "mine.yaml"
    file.write_text(dedent(FILE.format(dataset=dataset, model=model)))
    return make_plan(load(file, [], data), data)


@pytest.mark.parametrize(("dataset", "write"), [(CSV, write_table), (IMAGES, write_images)])
@pytest.mark.parametrize("path", ["mine", "./mine", "sub/mine", "../shared/mine"])
def test_the_file_beside_the_experiment_file_comes_first(
    dataset: str, write: Any, path: str, folders: Folders
) -> None:
    here, data = folders
    (data / "x").mkdir()  # Below which `../shared` is not the experiment's neighbour.
    write(data / path, 20)
    (below,) = plan_of(folders, dataset.format(path)).trials
    write(here / path, 40)
    (first,) = plan_of(folders, dataset.format(path)).trials
    for planned, n in ((below, 20), (first, 40)) if not path.startswith("..") else ((first, 40),):
        rebuilt = Trial.of(planned.trial.resolved())  # as predict has it
        sent = pickle.loads(pickle.dumps(planned.trial))  # as a worker has it
        for trial in (planned.trial, rebuilt, sent):
            splits = load_splits(trial, data, torch.device("cpu"))
            assert sum(map(len, (splits.train, *splits.evaluated().values()))) == n


@pytest.mark.parametrize(("dataset", "write"), [(CSV, write_table), (IMAGES, write_images)])
def test_where_a_file_is_found_is_no_part_of_an_id(
    dataset: str, write: Any, folders: Folders
) -> None:
    here, data = folders
    write(data / "mine", 20)
    (below,) = plan_of(folders, dataset.format("mine")).trials
    write(here / "mine", 20)
    (first,) = plan_of(folders, dataset.format("./mine")).trials
    assert first.trial_id == below.trial_id


def test_a_file_is_found_from_any_working_directory(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, data = folders
    write_table(here / "mine.csv", 20)
    plan_of(folders, CSV.format("mine.csv"))
    monkeypatch.chdir(here)
    (planned,) = make_plan(load("mine.yaml", [], data), data).trials
    monkeypatch.chdir(tmp_path)
    assert len(load_splits(planned.trial, data, torch.device("cpu")).test) == 4


def test_weights_are_looked_for_beside_the_experiment_file_too(folders: Folders) -> None:
    here, data = folders
    write_images(data / "mine", 20)
    (here / "w.pt").write_bytes(b"weights")
    model = "{name: torchvision, weights: ./w.pt}"
    (planned,) = plan_of(folders, IMAGES.format("mine"), model).trials
    assert planned.trial.model.resolved()["weights"] == str(here / "w.pt")


@pytest.mark.parametrize("folder", ["experiments", "data"])
@pytest.mark.parametrize(
    ("there", "written"),
    [
        ("wine.csv", "wnie.csv"),
        ("wine.csv", "Wine.CSV"),
        ("wine.csv", "./wine.cvs"),
        ("tables/wine.csv", "table/wine.csv"),
    ],
)
def test_a_mistyped_path_suggests_the_nearest(
    folder: str, there: str, written: str, folders: Folders, tmp_path: Path
) -> None:
    write_table(tmp_path / folder / there, 20)
    with pytest.raises(InputError) as caught:
        plan_of(folders, CSV.format(written))
    (problem,) = caught.value.problems
    assert problem.where == f"{folders[0] / 'mine.yaml'}:3"
    assert str(folders[0] / Path(written)) in problem.what
    assert str(folders[1] / Path(written)) in problem.what
    assert f"did you mean {tmp_path / folder / there}?" in problem.hint


def test_nothing_is_suggested_for_what_is_nothing_like_it(folders: Folders) -> None:
    write_table(folders[0] / "wine.csv", 20)
    with pytest.raises(InputError) as caught:
        plan_of(folders, CSV.format("housing.csv"))
    assert "did you mean" not in str(caught.value)


def test_skip_rules_name_the_path_as_the_file_does(folders: Folders) -> None:
    here, data = folders
    for name in ("one.csv", "two.csv"):
        write_table(here / name, 20)
    file = here / "mine.yaml"
    file.write_text(
        dedent(
            """
            trial: {dataset: {name: csv, target: y}, model: mlp, optimizer: sgd, lr: 0.1}
            grid: {dataset.path: [one.csv, two.csv]}
            skip: [{when: {dataset.path: one.csv}, because: it is old}]
            """
        )
    )
    (planned,) = make_plan(load(file, [], data), data).trials
    assert planned.trial.dataset.resolved()["path"] == str(here / "two.csv")
