"""Studies of a grid that is a list: their points are those of the sub-grids."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.tuning.study_plan import InvalidPoint, field_value
from tests.tuning.tuning_support import plans, write

FILE = """\
name: small
trial: {dataset: iris, model: {name: mlp, hidden: [4]}, epochs: 1}
grid:
- optimizer: [momentum]
  optimizer.momentum: [0.5, 0.9]
  lr: [0.1, 1.0]
- optimizer: [adam]
  lr: [0.001, 0.01]
  scheduler: [cosine, constant]
search: {per: [optimizer], trials: 4, sampler: grid}
"""


def dimensions(content: str, workspace: Path, data_root: Path) -> dict[str, dict[str, str]]:
    studies = plans(write(workspace, content), data_root)
    return {study.label: {d.field: str(d) for d in study.dimensions} for study in studies}


def test_a_study_searches_the_values_of_its_own_grids(workspace: Path, data_root: Path) -> None:
    assert dimensions(FILE, workspace, data_root) == {
        "momentum": {
            "scheduler": "[constant]",
            "optimizer.momentum": "[0.5, 0.9]",
            "lr": "[0.1, 1]",
        },
        "adam": {"scheduler": "[cosine, constant]", "lr": "[0.001, 0.01]"},
    }


def test_a_point_that_no_grid_has_is_left_out(workspace: Path, data_root: Path) -> None:
    content = FILE.replace("per: [optimizer], trials: 4", "trials: 8")
    (study,) = plans(write(workspace, content), data_root)
    trials = [study.trial(point) for point in study.allowed_points]
    assert sorted((t.optimizer.name, t.lr, t.scheduler.name) for t in trials) == sorted(
        [("momentum", lr, "constant") for lr in (0.1, 1.0)] * 2
        + [("adam", lr, name) for lr in (0.001, 0.01) for name in ("cosine", "constant")]
    )
    with pytest.raises(InvalidPoint, match="no grid of the list"):
        study.trial({"lr": 0.001})


def test_what_the_space_searches_is_no_part_of_the_grids(workspace: Path, data_root: Path) -> None:
    space = "space: {optimizer.weight_decay: {low: 0, high: 1}, batch_size: [16, 32]}"
    content = FILE.replace("trials: 4, sampler: grid", space)
    for study in plans(write(workspace, content), data_root):
        trial = study.trial({"optimizer.weight_decay": 0.25, "batch_size": 32})
        assert field_value(trial, "optimizer.weight_decay") == 0.25


def test_a_field_in_per_that_one_grid_lacks_has_its_default(
    workspace: Path, data_root: Path
) -> None:
    content = FILE.replace("per: [optimizer], trials: 4, sampler: grid", "per: [scheduler]")
    assert {label: of["lr"] for label, of in dimensions(content, workspace, data_root).items()} == {
        "constant": "[0.1, 1, 0.001, 0.01]",
        "cosine": "[0.001, 0.01]",
    }
