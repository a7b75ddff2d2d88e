"""Fractions and strata that a data set cannot have are told before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.experiment.experiment_support import Load, Problems

FILE = """
    name: small
    trial:
      dataset: {dataset}
      model: mlp
      optimizer: sgd
      lr: 0.1
      val_fraction: {val}
"""


@pytest.fixture(autouse=True)
def own_data(tmp_path: Path) -> None:
    """A table of 3 cats, 3 dogs and a fox; as many images of cats and dogs, and one of a fox."""
    rows = "".join(f"{n},{kind}\n" for n, kind in enumerate(["cat", "dog"] * 3 + ["fox"]))
    (tmp_path / "pets.csv").write_text("x,kind\n" + rows)
    for name, count in {"cat": 3, "dog": 3, "fox": 1}.items():
        (tmp_path / "pets" / name).mkdir(parents=True)
        for n in range(count):
            Image.new("L", (4, 4), n).save(tmp_path / "pets" / name / f"{n}.png")


CSV = "name: csv, path: pets.csv, target: kind"
IMAGES = "name: image_folder, path: pets"


@pytest.mark.parametrize(
    "dataset",
    [CSV, IMAGES, "name: iris", "name: digits, limit: 9", "name: diabetes", "name: wine"],
)
def test_a_test_fraction_that_takes_all(dataset: str, problems: Problems) -> None:
    text = FILE.format(dataset=f"{{{dataset}, test_fraction: 0.9999}}", val=0.1)
    (problem,) = problems(text)
    assert problem.where == "grid.yaml:4"
    assert "test_fraction: 0.9999 of " in problem.what
    assert problem.what.endswith("leaves none to train on")


@pytest.mark.parametrize(
    ("dataset", "n"),
    [(CSV, 5), (IMAGES, 5), ("name: iris", 120), ("name: digits, limit: 10", 8)],
)
def test_a_validation_fraction_that_takes_all(dataset: str, n: int, problems: Problems) -> None:
    (problem,) = problems(FILE.format(dataset=f"{{{dataset}}}", val=0.999))
    assert problem.where == "grid.yaml:8"
    assert problem.what == f"val_fraction: 0.999 of {n} training examples leaves none to train on"


def test_an_override_is_named_where_it_is_the_cause(problems: Problems) -> None:
    text = FILE.format(dataset="{name: digits}", val=0.1)
    (problem,) = problems(text, "val_fraction=[0.1,0.9999]", "dataset.limit=20")
    assert problem.where == "override 'val_fraction=[0.1,0.9999]'"
    (problem,) = problems(text, "dataset.test_fraction=0.99999")
    assert problem.where == "override 'dataset.test_fraction=0.99999'"


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (
            f"{CSV}, stratify: true",
            "a class must be in both parts, and these have one example: 'fox'",
        ),
        (
            f"{IMAGES}, stratify: true",
            "a class must be in both parts, and these have one example: 'fox'",
        ),
        (
            "name: digits, limit: 12, stratify: true",
            "a class must be in both parts, and these have one example: '2', '3'",
        ),
        ("name: iris, stratify: true, test_fraction: 0.01", "a test split of 2 of 150 examples"),
        ("name: wine, stratify: true, test_fraction: 0.99", "a training split of 1 of 178"),
    ],
)
def test_strata_that_cannot_be_in_both_parts(dataset: str, said: str, problems: Problems) -> None:
    (problem,) = problems(FILE.format(dataset=f"{{{dataset}}}", val=0.1))
    assert problem.where == "grid.yaml:4"
    assert f"stratify: {said}" in problem.what
    assert "stratify: false" in problem.hint


@pytest.mark.parametrize("dataset", [CSV, IMAGES, "name: digits, limit: 12"])
def test_without_strata_a_class_of_one_is_allowed(dataset: str, load_text: Load) -> None:
    load_text(FILE.format(dataset=f"{{{dataset}}}", val=0.1))
