"""`key=value` after the file."""

from __future__ import annotations

from typing import Any

import pytest

from harness.experiment.experiment import Experiment, NumericDimension
from tests.experiment.experiment_support import Load, Problems

FILE = """\
name: base
trial:
  dataset: digits
  epochs: 5
  optimizer: {name: momentum, momentum: 0.8}
grid:
  model: [mlp, {name: mlp, hidden: [8]}]
  lr: [0.1, 0.01]
skip:
  - {when: {lr: 0.01, model: {name: mlp, hidden: [8]}}, because: learns nothing}
"""


def values(experiment: Experiment, field: str) -> list[Any]:
    """The labels or values that a field takes."""
    found = [cell.value for cell in experiment.grid.fields[field].values.values()]
    return [getattr(value, "label", value) for value in found]


def axes(experiment: Experiment) -> list[str]:
    return [axis.field for axis in experiment.axes]


@pytest.mark.parametrize(
    ("override", "field", "expected", "grid"),
    [
        ("trial.epochs=1", "epochs", [1], ["model", "lr"]),
        ("epochs=1", "epochs", [1], ["model", "lr"]),
        ("epochs=[1, 2]", "epochs", [1, 2], ["model", "lr", "epochs"]),
        ("lr=1e-3", "lr", [0.001], ["model"]),
        ("lr=[1,2]", "lr", [1.0, 2.0], ["model", "lr"]),
        ("grid.seed=[0,1]", "seed", [0, 1], ["model", "lr", "seed"]),
        ("optimizer=adam", "optimizer", ["adam"], ["model", "lr"]),
        ("optimizer={name: sgd, weight_decay: 1}", "optimizer", ["sgd(weight_decay=1)"], None),
        ("optimizer.momentum=0.5", "optimizer", ["momentum(momentum=0.5)"], ["model", "lr"]),
        (
            "trial.optimizer.weight_decay=0.1",
            "optimizer",
            ["momentum(momentum=0.8, weight_decay=0.1)"],
            None,
        ),
        ("optimizer.momentum=[0, 0.5]", "optimizer", None, ["model", "lr", "optimizer.momentum"]),
        ("model=mlp", "model", ["mlp"], ["lr"]),
        ("model.dropout=0.5", "model", ["mlp(dropout=0.5)", "mlp(hidden=[8], dropout=0.5)"], None),
        ("metrics=[f1]", "metrics", [("accuracy", "f1")], None),
        (
            "metrics=[[f1], []]",
            "metrics",
            [("accuracy", "f1"), ("accuracy",)],
            ["model", "lr", "metrics"],
        ),
        ("augment=[flip]", "augment", None, ["model", "lr"]),
    ],
)
def test_a_trial_field(
    load_text: Load, override: str, field: str, expected: list[Any] | None, grid: list[str] | None
) -> None:
    experiment = load_text(FILE, override)
    if expected is not None:
        assert values(experiment, field) == expected
    assert axes(experiment) == (grid or ["model", "lr"])


def test_an_option_that_takes_a_list(load_text: Load) -> None:
    one = load_text(FILE, "model=mlp", "model.hidden=[32]")
    assert values(one, "model") == ["mlp(hidden=[32])"]
    axis = load_text(FILE, "model=cnn", "model.hidden=[32,16]")
    assert values(axis, "model") == ["cnn(hidden=32)", "cnn(hidden=16)"]
    several = load_text(FILE, "model=mlp", "model.hidden=[[32], [4, 4]]")
    assert values(several, "model") == ["mlp(hidden=[32])", "mlp(hidden=[4, 4])"]


def test_an_option_replaces_those_in_the_file(load_text: Load) -> None:
    """An override of an option removes that option from the components in the file."""
    experiment = load_text(FILE.replace("[8]}]", "[8]}, {name: mlp, dropout: 0.1}]"), "model=mlp")
    assert values(experiment, "model") == ["mlp"]
    changed = load_text(FILE, "grid.model=[{name: mlp, hidden: [4]}, mlp]", "lr=0.1")
    assert values(changed, "model") == ["mlp(hidden=[4])", "mlp"]


def test_other_fields_of_the_file(load_text: Load) -> None:
    space = ("search.space.lr.low=1e-4", "search.space.lr.high=1")
    experiment = load_text(FILE, "name=mine", "search.trials=5", *space)
    assert experiment.name == "mine"
    assert experiment.search is not None
    assert experiment.search.trials == 5
    assert NumericDimension("lr", 1e-4, 1.0) in experiment.search.space


def test_the_last_of_equal_keys_wins(load_text: Load) -> None:
    assert values(load_text(FILE, "epochs=1", "epochs=2"), "epochs") == [2]


@pytest.mark.parametrize(
    ("override", "what", "hint"),
    [
        ("trail.epochs=1", "trail.epochs: unknown field", "did you mean 'trial'?"),
        ("epoch=1", "epoch: unknown field", "did you mean 'epochs'?"),
        ("trial.epoch=1", "trial.epoch: unknown field", "did you mean 'epochs'?"),
        ("epochs=0", "trial.epochs: must be at least 1, given 0", "allowed: 1 ≤ value"),
        ("lr=[0.1,0]", "grid.lr[1]: must be greater than 0, given 0", ""),
        ("epochs", "must be key=value", ""),
        ("=1", "must be key=value", ""),
        ("epochs=[1", "is not valid YAML", ""),
        ("epochs=!!int 1", "tags are not allowed", ""),
        ("trial.lr=1", "grid.lr: is set in trial too (override 'trial.lr=1')", "keep one"),
        ("optimizer=addam", "trial.optimizer: no 'addam' is registered", "did you mean 'adam'?"),
        ("optimizer.momntum=1", "trial.optimizer.momntum: optimizer 'momentum' has no", "did you"),
        ("name.x=1", "name is not a mapping in the file", ""),
    ],
)
def test_a_bad_override(problems: Problems, override: str, what: str, hint: str) -> None:
    (problem,) = problems(FILE, override)
    assert what in problem.what
    assert problem.hint.startswith(hint)
    if not what.startswith("grid.lr: is set"):
        assert problem.where == f"override {override!r}"


def test_bad_overrides_are_reported_together(problems: Problems) -> None:
    assert len(problems(FILE, "trail=1", "epochs", "x.y=2")) == 3


def test_a_skip_rule_may_match_nothing_once_its_field_is_overridden(
    load_text: Load, problems: Problems
) -> None:
    assert load_text(FILE, "lr=0.1").grid.combinations
    (problem,) = problems(FILE.replace("lr: 0.01,", "lr: 0.5,"), "epochs=1")
    assert problem.what == "skip[0]: matches no combination of the grid"


def test_a_bad_override_is_reported_beside_bad_values(problems: Problems) -> None:
    found = problems(FILE, "optimiser=adam", "lr=-1")
    assert len(found) == 2
    assert "optimizer" in found[0].hint
    assert "greater than 0" in found[1].what
