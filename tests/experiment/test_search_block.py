"""The `search:` block: its settings, and the errors of a wrong one."""

from __future__ import annotations

import pytest

from harness.experiment.experiment import (
    CategoricalDimension,
    KnownPoint,
    Method,
    NumericDimension,
    Objective,
)
from tests.experiment.experiment_support import Load, Problems

FILE = """\
trial: {dataset: digits, model: mlp, lr: 0.1}
grid:
  optimizer: [sgd, momentum, adam]
  scheduler: [constant, cosine]
  seed: [3, 4]
search:
  per: [optimizer]
"""


def test_what_a_block_asks_for(load_text: Load) -> None:
    search = load_text(
        FILE
        + """\
  minutes: 2
  space:
    lr: {low: 1e-4, high: 1, log: true}
    optimizer.momentum: {low: 0.5, high: 0.9}
    batch_size: {low: 16, high: 64, step: 16}
    loss.label_smoothing: [0, 0.1]
  known: [{optimizer: adam, lr: 1e-3}]
  sampler: {name: tpe, n_startup_trials: 4}
"""
    ).search
    assert search is not None
    fields = [dimension.field for dimension in search.space]
    assert fields == [
        "scheduler",
        "optimizer.momentum",
        "loss.label_smoothing",
        "lr",
        "batch_size",
    ], "an axis that is not per is searched; options follow their components"
    assert isinstance(search.space[0], CategoricalDimension)
    assert str(search.space[0]) == "[constant, cosine]"
    assert search.space[1] == NumericDimension("optimizer.momentum", 0.5, 0.9)
    assert search.space[2] == CategoricalDimension("loss.label_smoothing", (0.0, 0.1))
    assert search.space[3] == NumericDimension("lr", 1e-4, 1.0, log=True)
    assert search.space[4] == NumericDimension("batch_size", 16, 64, step=16, integer=True)
    assert search.known == (KnownPoint({"optimizer": "adam"}, {"lr": 1e-3}),)
    assert (search.trials, search.minutes, search.seeds) == (None, 2, (3, 4))
    assert search.sampler == Method("tpe", {"n_startup_trials": 4}), "the rest is Optuna's"
    assert search.objectives == (Objective("val/accuracy", "max"),)


def test_the_budget_is_twenty_trials_where_none_is_given(load_text: Load) -> None:
    search = load_text(FILE).search
    assert search is not None
    assert (search.trials, search.minutes) == (20, None)


def test_objectives_beside_the_metric(load_text: Load) -> None:
    search = load_text(FILE + "  also: [time/train_s, parameters, val/loss]\n").search
    assert search is not None
    assert [(o.metric, o.direction) for o in search.objectives] == [
        ("val/accuracy", "max"),
        ("time/train_s", "min"),
        ("parameters", "min"),
        ("val/loss", "min"),
    ]


@pytest.mark.parametrize(
    ("line", "what", "hint"),
    [
        ("space: {lr: {low: 1, high: 0.1}}", "space.lr.low: 1 lies above high, 0.1", ""),
        (
            "space: {lr: {low: 0, high: 0.1, log: true}}",
            "space.lr.low: must be greater than 0 on a logarithmic scale, given 0",
            "",
        ),
        (
            "space: {lr: {low: 0, high: 0.1}}",
            "space.lr.low: must be greater than 0, given 0",
            "allowed: 0 < value",
        ),
        ("space: {lr: {low: 1}}", "space.lr: high is missing", "a range is {low: …, high: …}"),
        ("space: {lr: 1}", "space.lr: must be a range {low: …, high: …} or a list", ""),
        ("space: {lr: []}", "space.lr: a list of values must not be empty", ""),
        ("space: {lr: [0.1, 1e-1]}", "space.lr[1]: 0.1 is given twice", ""),
        ("space: {lr: [0.1, big]}", "space.lr[1]: must be a number, given 'big'", "allowed: 0 <"),
        ("space: {lrs: [0.1]}", "space.lrs: unknown field", "did you mean 'lr'?"),
        ("space: {lr: {low: 1, high: 2, lgo: true}}", "space.lr.lgo: unknown field", "did you m"),
        ("space: {lr: {low: 1, high: 2, log: 1}}", "space.lr.log: must be true or false", ""),
        (
            "space: {lr: {low: 1, high: 2, log: true, step: 1}}",
            "space.lr.step: a logarithmic range has no step",
            "keep one of them",
        ),
        ("space: {lr: {low: 1, high: 2, step: 0}}", "space.lr.step: must be greater than 0", ""),
        (
            "space: {batch_size: {low: 10, high: 25, step: 10}}",
            "space.batch_size.high: 25 is not a whole number of steps above low",
            "the last step is 20",
        ),
        (
            "space: {batch_size: {low: 10.5, high: 25}}",
            "space.batch_size.low: must be an integer, given 10.5",
            "",
        ),
        (
            "space: {optimizer.momentun: [0.9]}",
            "space.optimizer.momentun: no optimizer has an option 'momentun'",
            "did you mean 'momentum'?",
        ),
        (
            "space: {optimizer.alpha: [0.9]}",
            "space.optimizer.alpha: no optimizer of this file has an option 'alpha': sgd, mom",
            "",
        ),
        (
            "space: {optimizer.momentum: {low: 0.5, high: 1.5}}",
            "space.optimizer.momentum.high: must be less than 1, given 1.5",
            "allowed: 0 ≤ value < 1",
        ),
        (
            "space: {model: {low: 1, high: 2}}",
            "space.model: must be a list: only numbers have a range",
            "list the values",
        ),
        ("space: {loss: [mse]}", "space.loss[0]: loss 'mse' does not fit a multiclass data", ""),
        ("space: {seed: [1, 2]}", "space.seed: cannot be searched: it would pick the luckiest", ""),
        ("space: {optimizer: [sgd]}", "per[0]: optimizer is in space too", "keep one of the two"),
        ("sampler: tpee", "sampler: no sampler 'tpee'", "did you mean 'tpe'?"),
        (
            "sampler: {name: tpe, startup: 1}",
            "sampler.startup: sampler 'tpe' has no",
            "did you mean",
        ),
        ("sampler: {name: tpe, group: true}", "sampler.group: needs multivariate: true", ""),
        ("sampler: grid", "sampler: the grid has 2 points, fewer than the 20 trials", "set trials"),
        (
            "sampler: grid\nspace: {lr: {low: 1, high: 2}}",
            "space.lr: the sampler grid needs lists or steps, not a continuous range",
            "give a step",
        ),
        ("pruner: medain", "pruner: no pruner 'medain'", "did you mean 'median'?"),
        (
            "pruner: median",
            "pruner: median compares epochs of single trials, and each point has 2 seeds",
            "use wilcoxon",
        ),
        (
            "pruner: wilcoxon",
            "pruner: wilcoxon prunes nothing before 4 pairs of seeds, and each point has 2 seeds",
            "give more than 4 seeds",
        ),
        ("pruner: wilcoxon\nalso: [parameters]", "pruner: wilcoxon takes one objective", ""),
        ("also: [speed]", "also[0]: unknown objective 'speed'", ""),
        ("also: [val/accuracy]", "also[0]: 'val/accuracy' is an objective already", ""),
        ("known: [{lr: 0.1}]", "known[0].lr: is neither searched nor in per", ""),
        ("known: [{optimizer: sgd}]", "known[0]: gives no value to a field that is searched", ""),
        (
            "space: {lr: {low: 1, high: 2}}\nknown: [{lr: 3}]",
            "known[0].lr: 3 lies outside the space 1 … 2",
            "",
        ),
        ("minutes: 0", "minutes: must be greater than 0, given 0", ""),
    ],
)
def test_what_is_refused(problems: Problems, line: str, what: str, hint: str) -> None:
    found = problems(FILE + "".join(f"  {entry}\n" for entry in line.split("\n")))
    assert any(problem.what.startswith(f"search.{what}") for problem in found), found
    problem = next(p for p in found if p.what.startswith(f"search.{what}"))
    assert problem.hint.startswith(hint)
    assert problem.where.startswith("grid.yaml:")
    assert int(problem.where.partition(":")[2]) >= 7


def test_a_space_with_nothing_in_it_is_refused(problems: Problems) -> None:
    content = "trial: {dataset: digits, model: mlp, optimizer: sgd, lr: 0.1}\nsearch: {trials: 3}\n"
    assert [p.what for p in problems(content)] == ["search.space: names nothing to search"]


def test_all_problems_are_reported_at_once_each_with_its_line(problems: Problems) -> None:
    found = problems(
        FILE
        + """\
  space:
    lr: {low: 0, high: 1, log: true}
    grad_clip: []
    epoch: {low: 1, high: 2}
  pruner: asah
"""
    )
    assert [p.where for p in found] == [f"grid.yaml:{n}" for n in (9, 10, 11, 12)]


def test_an_override_may_leave_no_component_with_an_option_that_is_searched(
    load_text: Load,
) -> None:
    search = load_text(FILE + "  space: {optimizer.momentum: [0.5, 0.9]}\n", "optimizer=sgd").search
    assert search is not None
    assert [dimension.field for dimension in search.space] == ["scheduler"]
