"""The JSON Schema and the tables in the docs, which derive from the declarations."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from checks import field_tables
from harness.components.registry import activate
from harness.experiment import schema
from harness.experiment.reading import yaml
from tests.experiment.experiment_support import Load

REPOSITORY = Path(__file__).resolve().parents[2]
EXPERIMENTS = sorted((REPOSITORY / "experiments").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    made = schema.schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


def test_the_schema_is_fresh() -> None:
    path = REPOSITORY / schema.DEFAULT_PATH
    assert path.read_text(encoding="utf-8") == schema.text(), (
        f"{schema.DEFAULT_PATH} is stale: run `python -m harness.experiment.schema --write`"
    )


def test_the_tables_of_the_docs_are_fresh() -> None:
    page = (REPOSITORY / field_tables.PAGE).read_text(encoding="utf-8")
    for name in field_tables.TABLES:
        assert f"<!-- fields: {name} -->" in page
    assert page == field_tables.refreshed(page), (
        f"{field_tables.PAGE} is stale: run `python -m checks.field_tables --write`"
    )


def test_the_example_of_the_docs_is_as_it_says(load_text: Load, validator: Any) -> None:
    page = (REPOSITORY / field_tables.PAGE).read_text(encoding="utf-8")
    example = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)[0]
    assert not list(validator.iter_errors(yaml.parse(example, "docs").values))
    grid = load_text(example).grid
    assert (len(grid.combinations), len(grid.skipped)) == (42, 12)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_fits_the_schema(validator: Draft202012Validator, path: Path) -> None:
    faults = [
        f"{fault.json_path}: {fault.message}"
        for fault in validator.iter_errors(yaml.read(path).values)
    ]
    assert not faults
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=schema.json"


def test_the_schema_of_a_file_has_the_components_of_its_code(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import harness\n@harness.model\ndef net(width: int = 1): ...\n"
        "def other(depth: int = 1): ...\n"
    )
    path = tmp_path / "own.yaml"
    path.write_text(
        "code: net.py\ntrial: {dataset: iris, lr: 0.1, optimizer: sgd}\n"
        'grid: {model: [net, "net.py:other"]}\n'
    )
    assert schema.main([str(path), "--write", str(tmp_path / "schema.json")]) == 0
    made = Draft202012Validator(json.loads((tmp_path / "schema.json").read_text()))
    content = yaml.read(path).values
    assert made.is_valid(content)
    for model in ({"name": "net", "width": 2}, {"name": "net.py:other", "depth": 2}):
        assert made.is_valid(content | {"grid": {"model": [model]}})
    wrong: list[dict[str, Any]] = [{"name": "net", "width": "2"}, {"name": "net", "depth": 2}]
    for model in wrong:
        assert not made.is_valid(content | {"grid": {"model": [model]}})
    activate(None)


def test_the_schema_of_a_file_that_is_wrong_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("code: nowhere.py\n")
    assert schema.main([str(path)]) == 2
    assert "no file nowhere.py" in capsys.readouterr().err


GOOD: dict[str, Any] = {"trial": {"dataset": "digits", "model": "mlp", "optimizer": "sgd", "lr": 1}}


@pytest.mark.parametrize(
    "change",
    [
        {"trail": {}},
        {"trial": {"epoch": 1}},
        {"trial": {"epochs": 0}},
        {"trial": {"epochs": 1.5}},
        {"trial": {"device": "gpu"}},
        {"trial": {"optimizer": "addam"}},
        {"trial": {"optimizer": {"name": "adam", "bta": 1}}},
        {"trial": {"optimizer": {"weight_decay": 1}}},
        {"trial": {"model": {"name": "mlp", "dropout": 1.5}}},
        {"trial": {"model.hidden": "x"}},
        {"trial": {"model.hiden": [3]}},
        {"trial": {"augment": ["shift"]}},
        {"grid": {"seed": []}},
        {"grid": {"seed": [0, 0]}},
        {"grid": {"seed": 0}},
        {"grid": []},
        {"grid": [{"seed": [0]}, 3]},
        {"grid": [{"seeds": [0]}]},
        {"grid": {"optimizer": ["sgd", "addam"]}},
        {"skip": [{"when": {"lr": 1}}]},
        {"skip": [{"when": {"lrs": 1}, "because": "x"}]},
        {"skip": [{"when": {"optimizer": "addam"}, "because": "x"}]},
        {"expect": [{"metric": "accuracy", "value": 1, "tolerance": 1}]},
        {"expect": [{"metric": "test/f1", "value": 1, "tolerance": 0}]},
        {"metric": "accuracy"},
        {"target": "high"},
        {"artifacts": "some"},
        {"name": "a/b"},
        {"search": {"trails": 3}},
    ],
    ids=json.dumps,
)
def test_the_schema_finds_mistakes(validator: Draft202012Validator, change: dict[str, Any]) -> None:
    assert not validator.is_valid(GOOD | change)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"trial": None, "grid": {"seed": [0, 1], "model.hidden": [[8], []]}},
        {"trial": {"optimizer": {"name": "Adadelta", "rho": 0.9}, "grad_clip": None}},
        {"trial": {"augment": "none", "loss.label_smoothing": 0.1, "optimizer.rho": 0.9}},
        {"grid": [{"seed": [0]}, {"optimizer": ["adam"], "optimizer.eps": [1e-8]}, {}]},
        {"grid": None},
        {"grid": {"augment": ["none", ["flip"]], "optimizer": ["sgd", {"name": "adam"}]}},
        {"skip": [{"when": {"lr": [1, 2], "optimizer": {"name": "sgd"}}, "because": "x"}]},
        {"search": {"space": {"lr": {"low": 1, "high": 2, "log": True}}, "per": ["optimizer"]}},
    ],
    ids=json.dumps,
)
def test_the_schema_allows_what_is_right(
    validator: Draft202012Validator, change: dict[str, Any]
) -> None:
    assert not [fault.message for fault in validator.iter_errors(GOOD | change)]


def test_it_writes_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "schema.json"
    assert schema.main(["--write", str(path)]) == 0
    assert schema.main([]) == 0
    assert path.read_text(encoding="utf-8") == capsys.readouterr().out == schema.text()
