"""`grid:` as a list of mappings, each the product of its own axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.model_selection import ParameterGrid

from harness.experiment.experiment import Experiment
from harness.experiment.loading import load
from harness.experiment.plan import Plan, make_plan
from tests.experiment.experiment_support import Load, Problems

TRIAL = {"dataset": "iris", "model": "mlp"}
FILE = """\
trial: {dataset: iris, model: mlp}
grid:
- optimizer: [momentum]
  optimizer.momentum: [0.5, 0.9]
  lr: [0.1, 1]
- optimizer: [adam]
  lr: [0.001]
  scheduler: [cosine, constant]
- optimizer: [momentum, adam]
  lr: [0.1]
  seed: [0, 1]
skip:
- {when: {optimizer: adam, scheduler: cosine}, because: slow}
"""
NAMES = [
    "momentum optimizer.momentum=0.5 lr=0.1",
    "momentum optimizer.momentum=0.5 lr=1",
    "momentum optimizer.momentum=0.9 lr=0.1",
    "momentum optimizer.momentum=0.9 lr=1",
    "adam lr=0.001 constant",
    "momentum lr=0.1 seed=1",
    "adam lr=0.1 seed=0",
    "adam lr=0.1 seed=1",
]


def plan(experiment: Experiment) -> Plan:
    return make_plan(experiment, experiment.path.parent)


def ids(folder: Path, grid: Any, *overrides: str, **trial: Any) -> list[str]:
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump({"trial": TRIAL | trial, "grid": grid}, sort_keys=False))
    return [planned.trial_id for planned in plan(load(path, overrides, folder)).trials]


def test_order_names_and_what_is_skipped(load_text: Load) -> None:
    made = plan(load_text(FILE))
    assert [planned.name for planned in made.trials] == NAMES
    assert [(" ".join(skip.axes.values()), skip.because) for skip in made.skipped] == [
        ("adam 0.001 cosine", "slow"),
        ("momentum 0.1 0", f"the same trial as {NAMES[2]}"),
    ]


def test_each_value_of_an_axis_counts_once(load_text: Load) -> None:
    axes = {axis.field: axis.values for axis in load_text(FILE).axes}
    assert axes["lr"] == (0.1, 1.0, 0.001)
    assert [choice.name for choice in axes["optimizer"]] == ["momentum", "adam"]
    assert axes["seed"] == (0, 1)


AXES = st.fixed_dictionaries(
    {
        "optimizer": st.lists(st.sampled_from(["sgd", "adam"]), min_size=1, unique=True),
        "lr": st.lists(st.sampled_from([0.1, 0.2, 1.0]), min_size=1, max_size=2, unique=True),
    },
    optional={
        "seed": st.lists(st.integers(0, 2), min_size=1, max_size=2, unique=True),
        "scheduler": st.lists(st.sampled_from(["constant", "cosine"]), min_size=1, unique=True),
        "loss": st.just(["cross_entropy", "softmax_twice"]),
        "metrics": st.just([["f1"], []]),
        "optimizer.weight_decay": st.just([0.0, 0.5]),
    },
)


@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(grids=st.lists(AXES, min_size=1, max_size=3))
def test_the_trials_are_those_of_each_grid_by_itself(
    tmp_path: Path, grids: list[dict[str, Any]]
) -> None:
    """scikit-learn's `ParameterGrid` says what the combinations are."""
    together = ids(tmp_path, grids)
    apart = dict.fromkeys(trial for grid in grids for trial in ids(tmp_path, grid))
    assert sorted(together) == sorted(apart)
    points = {
        tuple(sorted({"seed": 0, "scheduler": "constant", **point}.items()))
        for point in ParameterGrid(
            [
                {k: v for k, v in grid.items() if k in ("optimizer", "lr", "seed", "scheduler")}
                for grid in grids
            ]
        )
    }
    only_those = all(set(grid) <= {"optimizer", "lr", "seed", "scheduler"} for grid in grids)
    assert len(together) == len(points) if only_those else len(together) >= len(points)


def test_a_default_of_the_task_fills_the_grids_without_a_loss(tmp_path: Path) -> None:
    """The loss and the metrics of a grid that names none are those of its data set's task."""
    data = [{"dataset": ["iris"]}, {"dataset": ["diabetes"]}]
    named = {"dataset": ["iris"], "loss": ["softmax_twice"], "metrics": [["f1"]]}
    trial = {"dataset": None, "optimizer": "sgd", "lr": 0.1}
    path = tmp_path / "g.yaml"
    shared = {k: v for k, v in (TRIAL | trial).items() if v is not None}
    content = {"trial": shared, "grid": [*data, named], "metric": "val/loss"}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    trials = [planned.trial for planned in plan(load(path, (), tmp_path)).trials]
    assert [t.loss.name for t in trials] == ["cross_entropy", "mse", "softmax_twice"]
    assert trials[2].metrics == ("f1",)
    assert "r2" in trials[1].metrics
    assert "accuracy" in trials[0].metrics


@pytest.mark.parametrize(
    ("override", "count"),
    [
        ("lr=0.5", 5),  # in trial, in place of every axis
        ("lr=[1,2]", 10),  # the axis of every grid
        ("grid.lr=[7]", 5),
        ("grid.0.lr=[3]", 7),
        ("grid[0].lr=[3]", 7),
        ("grid.1.lr=[1,2,3]", 10),
        ("grid.0.optimizer.momentum=[0.1]", 7),
        ("seed=[4,5]", 12),
        ("grid.2={optimizer: [sgd], lr: [1]}", 6),
        ("grid={optimizer: [sgd, adam], lr: [1]}", 2),
        ("trial.epochs=1", 8),
    ],
)
def test_an_override(load_text: Load, override: str, count: int) -> None:
    assert len(plan(load_text(FILE, override)).trials) == count


def test_an_override_of_one_grid_leaves_the_others(load_text: Load) -> None:
    made = plan(load_text(FILE, "grid.1.scheduler=[constant]", "grid.1.lr=[0.25]"))
    assert "adam lr=0.25 constant" in [planned.name for planned in made.trials]
    assert NAMES[0] == made.trials[0].name


def test_an_option_in_the_components_gives_way_to_an_override(load_text: Load) -> None:
    grid = "grid: [{optimizer: [{name: sgd, weight_decay: 0.1}]}, {optimizer: [adam]}]\n"
    made = plan(
        load_text(
            "trial: {dataset: iris, model: mlp, lr: 1}\n" + grid, "optimizer.weight_decay=0.5"
        )
    )
    assert [t.trial.optimizer.resolved()["weight_decay"] for t in made.trials] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("grid", "what", "where", "hint"),
    [
        ("grid: []", "grid: must not be an empty list", "grid.yaml:2", "list a mapping"),
        ("grid: 7", "grid: must be a mapping of axes, or a list", "grid.yaml:2", ""),
        ("grid:\n- 7", "grid[0]: must be a mapping of axes, given 7", "grid.yaml:3", ""),
        ("grid:\n- {}\n-", "grid[1]: must be a mapping of axes, given null", "grid.yaml:4", ""),
        ("grid:\n- lr: 1", "grid[0].lr: an axis must be a list, given 1", "grid.yaml:3", "put it"),
        ("grid:\n- {}\n- lr: []", "grid[1].lr: an axis must not be empty", "grid.yaml:4", ""),
        ("grid:\n- {}\n- lrs: [1]", "grid[1].lrs: unknown field", "grid.yaml:4", "did you mean"),
        ("grid:\n- lr: [1, 1.0]", "grid[0].lr[1]: 1.0 is given twice, first as", "grid.yaml:3", ""),
        ("grid:\n- {}\n- lr: [-1]", "grid[1].lr[0]: must be greater than 0", "grid.yaml:4", ""),
        ("grid:\n- lr: [1]\n- {}", "grid[1]: lr is missing", "grid.yaml:4", "give it in grid[1]"),
        (
            "grid:\n- lr: [1]\n- model: [mlp]\n  lr: [1]",
            "grid[1].model: is set in trial too",
            "grid.yaml:4",
            "keep one",
        ),
        (
            "grid:\n- lr: [1]\n  optimizer.eps: [1]",
            "grid[0].optimizer.eps[0]: optimizer 'sgd' has no",
            "grid.yaml:4",
            "",
        ),
    ],
)
def test_what_is_refused(problems: Problems, grid: str, what: str, where: str, hint: str) -> None:
    found = problems("trial: {dataset: iris, model: mlp, optimizer: sgd}\n" + grid)
    problem = next(p for p in found if what in p.what)
    assert problem.where == where
    assert problem.hint.startswith(hint)


@pytest.mark.parametrize(
    ("override", "what", "hint"),
    [
        ("grid.3.lr=[1]", "grid.3: the file has 3 grids", "allowed: grid.0 … grid.2"),
        ("grid.-1.lr=[1]", "grid.-1: the file has 3 grids", "allowed: grid.0 … grid.2"),
        ("grid.1.lrs=[1]", "grid[1].lrs: unknown field", "did you mean 'lr'?"),
        ("grid.1.lr=1", "grid[1].lr: an axis must be a list, given 1", "put it in brackets"),
        ("grid.1=3", "grid[1]: must be a mapping of axes, given 3", ""),
    ],
)
def test_a_bad_override(problems: Problems, override: str, what: str, hint: str) -> None:
    (problem,) = problems(FILE, override)
    assert problem.what == what
    assert problem.hint.startswith(hint)
    assert problem.where == f"override {override!r}"


def test_a_number_in_an_override_needs_a_list(problems: Problems) -> None:
    (problem,) = problems(
        "trial: {dataset: iris, model: mlp, lr: 1, optimizer: sgd}", "grid.0.seed=[1]"
    )
    assert (problem.what, problem.hint) == ("the file has one grid, not a list", "write grid.seed")


def test_a_rule_may_match_in_any_of_the_grids(load_text: Load, problems: Problems) -> None:
    rule = FILE.replace("{optimizer: adam, scheduler: cosine}", "{lr: 0.1}")
    assert len(plan(load_text(rule)).trials) == 4
    (problem,) = problems(FILE.replace("scheduler: cosine", "scheduler: step"))
    assert problem.what == "skip[0]: matches no combination of the grid"


def test_the_combinations_of_all_grids_are_limited(problems: Problems) -> None:
    one = f"{{seed: {list(range(300))}, epochs: {list(range(1, 201))}}}"
    trial = "trial: {dataset: iris, model: mlp, lr: 1, optimizer: sgd}\n"
    (problem,) = problems(f"{trial}grid: [{one}, {one}]")
    assert problem.what == "grid: has 120000 combinations; at most 100000 are allowed"


def test_an_invalid_option_in_one_grid_names_that_grid(problems: Problems) -> None:
    found = problems(
        FILE.replace("optimizer: [adam]", "optimizer: [adam]\n  optimizer.momentum: [1]")
    )
    assert [p.what for p in found] == [
        "grid[1].optimizer.momentum[0]: optimizer 'adam' has no option 'momentum'"
    ]


SEARCH = FILE.replace("  seed: [0, 1]\n", "") + "search: {per: [optimizer], trials: 3}\n"


def test_a_search_trains_its_points_on_the_same_seeds(problems: Problems) -> None:
    (problem,) = problems(SEARCH.replace("  scheduler:", "  seed: [0, 1]\n  scheduler:"))
    assert "same seeds" in problem.what
    assert problem.where == "grid.yaml:8"


def test_the_product_of_a_search_has_each_value_once(load_text: Load) -> None:
    search = load_text(SEARCH).search
    assert search is not None
    sizes = {dimension.field: dimension.size for dimension in search.space}
    assert sizes == {"scheduler": 2, "optimizer.momentum": 2, "lr": 3}
    assert search.sub_grid_axes == ("optimizer.momentum", "lr", "scheduler")
