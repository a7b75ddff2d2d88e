"""Studies as planned, and the trials of their points."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import InputError
from harness.experiment.trial import make_trial_id
from harness.tuning.study_plan import InvalidPoint, field_value, with_fields
from tests.support import make_trial
from tests.tuning.tuning_support import FILE, plans, write


def test_a_study_searches_only_the_fields_of_its_components(
    workspace: Path, data_root: Path
) -> None:
    sgd, momentum = plans(write(workspace), data_root)
    assert [d.field for d in sgd.dimensions] == ["lr"]
    assert [d.field for d in momentum.dimensions] == ["optimizer.momentum", "lr"]
    assert (sgd.label, momentum.label) == ("sgd", "momentum")
    assert sgd.key != momentum.key


def test_a_searched_component_brings_its_options(workspace: Path, data_root: Path) -> None:
    content = FILE.replace("  per: [optimizer]\n", "")
    (only,) = plans(write(workspace, content), data_root)
    assert only.label == "all"
    assert [d.field for d in only.dimensions] == ["optimizer", "optimizer.momentum", "lr"]
    sgd = [d.field for d in only.applying(only.base.trial)]
    assert sgd == ["optimizer", "lr"]


def test_a_point_gives_the_trial_that_the_grid_would_give(workspace: Path, data_root: Path) -> None:
    _, momentum = plans(write(workspace), data_root)
    trial = momentum.trial({"optimizer.momentum": 0.8, "lr": 0.5})
    (planned,) = momentum.planned_trials(trial, [7], "x")
    assert (field_value(planned.trial, "optimizer.momentum"), planned.trial.lr) == (0.8, 0.5)
    assert planned.trial.seed == 7
    assert planned.trial_id == make_trial_id(planned.trial.identity(), momentum.base.fingerprint)
    assert planned.config_id != planned.trial_id


def test_the_default_is_what_the_file_says_or_the_first_known_point(
    workspace: Path, data_root: Path
) -> None:
    sgd, momentum = plans(write(workspace), data_root)
    assert momentum.known_points == ({"optimizer.momentum": 0.9, "lr": 0.01},)
    known = FILE + "  known: [{optimizer: momentum, lr: 0.5}, {lr: 0.2}]\n"
    sgd, momentum = plans(write(workspace, known), data_root)
    assert sgd.known_points == ({"lr": 0.2},)
    own = {"optimizer.momentum": 0.9}
    assert momentum.known_points == ({**own, "lr": 0.5}, {**own, "lr": 0.2})
    assert [plan.default and plan.default.lr for plan in (sgd, momentum)] == [0.2, 0.5]


def test_a_described_value_is_the_value_that_is_trained(workspace: Path, data_root: Path) -> None:
    sgd, _ = plans(write(workspace), data_root)
    for lr in (0.0123456789, 1000.25, 0.1 + 0.2):
        assert sgd.describe(sgd.trial({"lr": lr})) == f"lr={lr!r}"


def test_a_default_outside_the_space_is_no_known_point(workspace: Path, data_root: Path) -> None:
    sgd, _ = plans(write(workspace, FILE.replace("lr: 0.01,", "lr: 5.0,")), data_root)
    assert sgd.known_points == ()
    assert sgd.default is not None
    assert sgd.default.lr == 5.0


def test_a_point_that_a_rule_skips_is_invalid(workspace: Path, data_root: Path) -> None:
    content = FILE.replace("grid: {", "grid: {scheduler: [constant, cosine], ").replace(
        "artifacts",
        "skip: [{when: {optimizer: sgd, scheduler: cosine}, because: too slow}]\nartifacts",
    )
    sgd, _ = plans(write(workspace, content), data_root)
    (cosine,) = (d for d in sgd.dimensions if d.field == "scheduler")
    with pytest.raises(InvalidPoint, match="too slow"):
        sgd.trial({"scheduler": cosine.values[1]})  # type: ignore[union-attr]


def test_options_that_conflict_are_rejected() -> None:
    trial = make_trial(optimizer="momentum")
    with pytest.raises(ValueError, match="less than 1"):
        with_fields(trial, {"optimizer.momentum": 2.0})


def test_a_grid_smaller_than_the_budget_is_rejected_for_each_study(
    workspace: Path, data_root: Path
) -> None:
    content = FILE.replace("{name: tpe, n_startup_trials: 2}", "grid")
    content = content.replace("{low: 1e-3, high: 1, log: true}", "[0.1, 0.2]")
    content = content.replace("{low: 0.5, high: 0.9}", "[0.5, 0.9]")
    with pytest.raises(InputError, match="study 'sgd' has 2 points, fewer than its 4 trials"):
        plans(write(workspace, content), data_root)
