"""Fields that the search space gives, or whose values a skip rule names there."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.core.errors import InputError
from harness.experiment.experiment import Search
from harness.experiment.plan import make_plan, plan_bases
from tests.experiment.experiment_support import Load, Problems

FILE = """\
trial: {dataset: digits, model: mlp, optimizer: sgd, lr: 0.1}
grid: {seed: [0]}
"""


def searched(load: Load, text: str, *overrides: str) -> Search:
    search = load(text, *overrides).search
    assert search is not None
    return search


@pytest.mark.parametrize(
    ("space", "fields"),
    [
        (
            "scheduler: [constant, step], scheduler.gamma: {low: 0.1, high: 0.9}",
            ["scheduler.gamma"],
        ),
        ("scheduler.gamma: [0.1, 0.5], scheduler: [constant, step]", ["scheduler.gamma"]),
        (
            "scheduler: [constant, {name: step, step_size: 2}], scheduler.gamma: [0.5]",
            ["scheduler.gamma"],
        ),
        (
            "optimizer: [momentum, adam], optimizer.momentum: [0.5], optimizer.eps: [1e-8]",
            ["optimizer.momentum", "optimizer.eps"],
        ),
        ("model: [mlp, cnn], model.channels: [[4], [8]]", ["model.channels"]),
    ],
)
def test_options_of_a_component_that_only_the_space_names(
    load_text: Load, space: str, fields: list[str]
) -> None:
    search = searched(load_text, FILE + f"search: {{space: {{{space}}}}}\n")
    assert [d.field for d in search.space if "." in d.field] == fields


@pytest.mark.parametrize(
    ("search", "what", "where"),
    [
        (
            "space: {scheduler: [constant, step], scheduler.gama: [0.1]}",
            "search.space.scheduler.gama: no scheduler has an option 'gama'",
            "grid.yaml:3",
        ),
        (
            "space: {scheduler: [constant, cosine], scheduler.gamma: [0.1]}",
            "no scheduler of search.space has an option 'gamma': constant, cosine",
            "grid.yaml:3",
        ),
        (
            "space: {scheduler: [constant, step], scheduler.gamma: {low: 0.1, high: 9}}",
            "scheduler.gamma.high: must be at most 1, given 9",
            "grid.yaml:3",
        ),
        (
            (
                "space: {scheduler: [constant, step], scheduler.gamma: [0.1]}, known: "
                "[{scheduler: constant, scheduler.gamma: 0.1}]"
            ),
            "known[0].scheduler.gamma: constant has no option 'gamma'",
            "grid.yaml:3",
        ),
        (
            "space: {scheduler: [constant, setp], scheduler.gamma: [0.1]}",
            "search.space.scheduler[1]: no 'setp' is registered",
            "grid.yaml:3",
        ),
        (
            "sampler: grid, trials: 9, space: {lr: {low: 1, high: 2, step: 1e-6}}",
            "the grid has 1000001 points; at most 100000",
            "grid.yaml:3",
        ),
    ],
)
def test_options_that_no_searched_component_has(
    problems: Problems, search: str, what: str, where: str
) -> None:
    file = FILE.replace("lr: 0.1", "lr: 1") + f"search: {{{search}}}\n"
    found = [p for p in problems(file) if what in p.what]
    assert [p.where for p in found] == [where]


def test_a_known_point_of_a_searched_component(load_text: Load) -> None:
    block = "space: {scheduler: [constant, step], scheduler.gamma: [0.1, 0.5]}"
    known = "known: [{scheduler.gamma: 0.5, scheduler: step}]"
    search = searched(load_text, FILE + f"search: {{{block}, {known}}}\n")
    (point,) = search.known
    assert point.point["scheduler.gamma"] == 0.5


@pytest.mark.parametrize(
    ("left_out", "space"),
    [
        ("lr", "lr: {low: 1e-3, high: 1, log: true}"),
        ("lr", "lr: [0.1, 0.2]"),
        ("optimizer", "optimizer: [adam, sgd]"),
        ("model", "model: [cnn, mlp], model.channels: [[4], [8]]"),
        ("optimizer lr", "optimizer: [adam, sgd], lr: [1]"),
    ],
)
def test_a_field_that_only_the_space_gives(
    load_text: Load, problems: Problems, left_out: str, space: str, tmp_path: Path
) -> None:
    given = {"dataset": "digits", "model": "mlp", "optimizer": "sgd", "lr": "0.1"}
    fields = {name: value for name, value in given.items() if name not in left_out.split()}
    trial = "trial: {" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}\n"
    experiment = load_text(trial + f"search: {{space: {{{space}}}}}\n")
    assert experiment.search is not None
    assert sorted(experiment.search.only_searched) == sorted(left_out.split())
    assert plan_bases(experiment, tmp_path).trials, "a search can start"
    with pytest.raises(InputError, match=f"{left_out.split()[0]} is missing: only search.space"):
        make_plan(experiment, tmp_path)
    found = problems(trial + "search: {space: {epochs: [1, 2]}}\n")
    assert {p.what for p in found} == {
        f"{name} is missing: give it in trial or in grid" for name in left_out.split()
    }


def test_an_override_gives_what_only_the_space_gave(load_text: Load, tmp_path: Path) -> None:
    text = FILE.replace(", lr: 0.1", "") + "search: {space: {lr: [0.1, 0.2]}}\n"
    experiment = load_text(text, "lr=0.3")
    assert searched(load_text, text, "lr=0.3").only_searched == ()
    assert [p.trial.lr for p in make_plan(experiment, tmp_path).trials] == [0.3]


@pytest.mark.parametrize(
    ("space", "problem"),
    [
        ("lr: {high: 1}", "lr is missing"),
        ("lr: {low: x, high: 1}", "search.space.lr.low: must be a number"),
        ("lr: []", "lr is missing"),
        ("lr: [-1]", "search.space.lr[0]: must be greater than 0"),
        ("dataset: [iris]", "lr is missing"),
    ],
)
def test_a_space_that_gives_no_value(problems: Problems, space: str, problem: str) -> None:
    text = FILE.replace(", lr: 0.1", "") + f"search: {{space: {{{space}}}}}\n"
    assert any(problem in p.what for p in problems(text))


SPACE = """\
search:
  space:
    lr: {low: 0.1, high: 0.9, step: 0.2}
    scheduler: [constant, {name: step, step_size: 3}]
    scheduler.gamma: {low: 0.1, high: 0.9}
    batch_size: [8, 16]
"""


@pytest.mark.parametrize(
    "when",
    [
        "lr: 0.5",
        "lr: [0.2, 0.3]",
        "optimizer: sgd, lr: 0.3",
        "scheduler: step",
        "scheduler: {name: step, step_size: 3}",
        "scheduler.step_size: 3",
        "scheduler: step, scheduler.gamma: 0.5",
        "scheduler: {name: step, gamma: 0.5}",
        "scheduler.gamma: [7, 0.25]",
        "batch_size: 16, lr: 0.1",
        "batch_size: [16, 32]",
    ],
)
def test_a_rule_on_searched_values(load_text: Load, when: str, tmp_path: Path) -> None:
    skip = f"skip: [{{when: {{{when}}}, because: x}}]\n"
    experiment = load_text(FILE + skip + SPACE)
    assert len(experiment.skip) == 1
    assert len(plan_bases(experiment, tmp_path).trials) == 1, "the study stays"


@pytest.mark.parametrize(
    "when",
    [
        "lr: 0.2",
        "lr: 1.1",
        "optimizer: adam, lr: 0.3",
        "scheduler: cosine",
        "scheduler: {name: step, step_size: 2}",
        "scheduler.step_size: 2",
        "scheduler: step, scheduler.gamma: 0.95",
        "batch_size: 32",
        "optimizer: momentum",
    ],
)
def test_a_rule_that_no_point_meets(problems: Problems, when: str) -> None:
    (problem,) = problems(FILE + f"skip: [{{when: {{{when}}}, because: x}}]\n" + SPACE)
    assert problem.what == "skip[0]: matches no combination of the grid or of the search space"
    assert problem.where == "grid.yaml:3"


def test_a_rule_on_the_value_in_trial_leaves_the_study(load_text: Load, tmp_path: Path) -> None:
    """The points replace that value. A sweep has nothing to run, and says so."""
    skip = "skip: [{when: {optimizer: sgd, lr: 0.1}, because: x}]\n"
    experiment = load_text(FILE + skip + SPACE)
    assert [p.trial.lr for p in plan_bases(experiment, tmp_path).trials] == [0.1]
    with pytest.raises(InputError, match="every combination is skipped"):
        make_plan(experiment, tmp_path)
    two = FILE.replace("optimizer: sgd, ", "").replace("seed:", "optimizer: [sgd, adam], seed:")
    other = load_text(two + skip + SPACE.replace("search:", "search:\n  per: [optimizer]"))
    assert [p.trial.optimizer.name for p in make_plan(other, tmp_path).trials] == ["adam"]
    bases = plan_bases(other, tmp_path).trials
    assert [p.trial.optimizer.name for p in bases] == ["adam", "sgd"]
