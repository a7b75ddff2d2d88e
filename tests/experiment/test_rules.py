"""Skip rules, published figures, and the conditions in both."""

from __future__ import annotations

import pytest

from tests.experiment.experiment_support import Load, Problems

FILE = """\
trial: {dataset: digits, model: mlp}
grid:
  optimizer: [sgd, {name: momentum, momentum: 0.5}]
  lr: [0.1, 0.01]
"""


@pytest.mark.parametrize(
    ("when", "skipped"),
    [
        ("{optimizer: sgd}", [(0, 0), (0, 1)]),
        ("{optimizer: sgd, lr: 1e-2}", [(0, 1)]),
        ("{lr: [0.1, 5]}", [(0, 0), (1, 0)]),
        ("{optimizer: {name: momentum, momentum: 0.5}}", [(1, 0), (1, 1)]),
        ("{optimizer.momentum: 0.5, lr: 0.1}", [(1, 0)]),
        ("{loss: cross_entropy, lr: 0.1}", [(0, 0), (1, 0)]),
    ],
)
def test_what_is_skipped(load_text: Load, when: str, skipped: list[tuple[int, int]]) -> None:
    experiment = load_text(FILE + f"skip: [{{when: {when}, because: ' so it is '}}]")
    assert experiment.grid.skipped == tuple((combination, 0) for combination in skipped)
    assert len(experiment.grid.combinations) == 4 - len(skipped)
    assert experiment.skip[0].because == "so it is"


def test_the_first_rule_that_matches_gives_the_reason(load_text: Load) -> None:
    rules = "skip:\n- {when: {lr: 0.1}, because: a}\n- {when: {optimizer: sgd}, because: b}\n"
    grid = load_text(FILE + rules).grid
    assert grid.skipped == (((0, 0), 0), ((0, 1), 1), ((1, 0), 0))


@pytest.mark.parametrize(
    ("rule", "what", "hint"),
    [
        ("{when: {lr: 0.1}}", "skip[0]: because is missing", ""),
        ("{when: {lr: 0.1}, because: '  '}", "skip[0].because: must not be empty", ""),
        ("{when: {}, because: x}", "skip[0].when: must have at least 1", ""),
        ("{because: x}", "skip[0]: when is missing", ""),
        ("{when: {lr: 0.1}, because: x, if: y}", "skip[0].if: unknown field", "allowed: because"),
        ("{when: {optimzer: sgd}, because: x}", "when.optimzer: unknown field", "did you mean 'op"),
        ("{when: {optimizer: sdg}, because: x}", "no 'sdg' is registered", "did you mean 'sgd'?"),
        ("{when: {lr: high}, because: x}", "when.lr: must be a number, given 'high'", ""),
        ("{when: {lr: [0.1, -1]}, because: x}", "when.lr[1]: must be greater than 0", ""),
        ("{when: {lr: []}, because: x}", "when.lr: an empty list matches nothing", ""),
        ("{when: {optimizer.momntum: 1}, because: x}", "no optimizer has an option 'momn", "did"),
        ("{when: {optimizer: {name: sgd, x: 1}}, because: x}", "'sgd' has no option 'x'", ""),
        ("{when: {lr: 0.3}, because: x}", "skip[0]: matches no combination of the grid", "correct"),
        ("{when: {model: mlp}, because: x}", "every combination is skipped", ""),
    ],
)
def test_a_bad_skip_rule(problems: Problems, rule: str, what: str, hint: str) -> None:
    (problem,) = problems(FILE + f"skip:\n  - {rule}\n")
    assert what in problem.what
    assert problem.hint.startswith(hint)
    assert problem.where == ("grid.yaml:5" if "every" in what else "grid.yaml:6")


def test_a_typo_in_the_grid_does_not_make_its_rule_look_wrong_too(problems: Problems) -> None:
    content = FILE.replace("[sgd,", "[sdg,") + "skip: [{when: {optimizer: sgd}, because: x}]"
    (problem,) = problems(content)
    assert problem.what == "grid.optimizer[0]: no 'sdg' is registered"


def test_expectations(load_text: Load) -> None:
    expect = "expect: [{metric: best/test/accuracy, value: 1, tolerance: 0.1, where: {lr: 0.1}}]"
    (figure,) = load_text(FILE + expect).expect
    assert (figure.metric, figure.value, figure.tolerance) == ("best/test/accuracy", 1.0, 0.1)
    assert (figure.where, figure.source) == ({"lr": 0.1}, "")


@pytest.mark.parametrize(
    ("figure", "what", "hint"),
    [
        (
            "metric: accuracy, value: 1, tolerance: 1",
            "metric: is not valid",
            "did you mean 'val/acc",
        ),
        ("metric: test/acuracy, value: 1, tolerance: 1", "no metric 'acuracy'", "did you mean 'te"),
        ("metric: test/r2, value: 1, tolerance: 1", "'r2' does not fit a multiclass", "allowed: t"),
        (
            "metric: best/test/f1, value: 1, tolerance: 1",
            "is not recorded at each",
            "add f1 to tri",
        ),
        ("metric: test/f1, value: 1, tolerance: 0", "tolerance: must be greater than 0", ""),
        ("metric: test/f1, value: x, tolerance: 1", "value: must be a number, given 'x'", ""),
        ("metric: test/f1, value: 1", "expect[0]: tolerance is missing", ""),
        ("metric: test/f1, value: 1, tolerance: 1, wher: {}", "unknown field", "did you mean 'wh"),
        ("metric: test/f1, value: 1, tolerance: 1, where: {lrs: 1}", "where.lrs: unknown f", "did"),
    ],
)
def test_a_bad_expectation(problems: Problems, figure: str, what: str, hint: str) -> None:
    (problem,) = problems(FILE + f"expect:\n  - {{{figure}}}\n")
    assert what in problem.what
    assert problem.hint.startswith(hint)
    assert problem.where == "grid.yaml:6"
