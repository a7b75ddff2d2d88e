"""Published figures."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.comparison import Question, compare
from harness.analysis.expectations import PublishedFigure, judge
from tests.stored import results, seeds, trial_run


def check(*runs: Any, **expected: Any) -> PublishedFigure:
    figure = {"metric": "test/accuracy", "value": 0.9, "tolerance": 0.01, "source": "paper"}
    found = compare(results(*runs, expect=[figure | expected]), Question())
    (checked,) = found.expectations
    return checked


def test_the_last_epoch_is_compared_unless_the_best_is_asked_for() -> None:
    """seeds() puts test 0.02 below val, and the last epoch 0.01 below the best."""
    runs = seeds([0.92, 0.93, 0.94])

    last, best = check(*runs), check(*runs, metric="best/test/accuracy")

    assert last.finding == "reproduced"
    assert last.mean == pytest.approx(0.9)
    assert last.n == 3
    assert last.sd == pytest.approx(0.01)
    assert last.difference == pytest.approx(0.0)
    assert best.mean == pytest.approx(0.91)
    assert best.finding == "reproduced"


def test_off_by_how_much() -> None:
    checked = check(*seeds([0.98, 0.98]))

    assert checked.finding == "off"
    assert checked.difference == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("mean", "expected"),
    [(0.97, "reproduced"), (0.95, "reproduced"), (0.9701, "off"), (0.9499, "off")],
)
def test_the_tolerance_ends_count_as_within(mean: float, expected: str) -> None:
    """0.97 − 0.96 is 0.010000000000000009 in binary."""
    assert judge(mean, 0.96, 0.01) == expected


def test_only_trials_of_its_condition_count() -> None:
    runs = [*seeds([0.93], optimizer="adam"), *seeds([0.5], optimizer="sgd")]

    assert check(*runs, where={"optimizer": "adam"}).mean == pytest.approx(0.9)
    assert check(*runs, where={"optimizer": "sgd"}).finding == "off"
    model = {"model": {"name": "mlp", "hidden": [16]}}
    assert check(*runs, where=model).where == "model=mlp(hidden=[16])"


def test_of_several_configs_the_selected_one_is_taken_not_the_nearest() -> None:
    runs = [*seeds([0.95], lr=0.1), *seeds([0.93], lr=0.2)]

    checked = check(*runs)

    assert checked.candidates == 2
    assert checked.mean == pytest.approx(0.92)


def test_a_question_about_some_trials_leaves_figures_alone() -> None:
    figure = {"metric": "test/accuracy", "value": 0.9, "tolerance": 0.1, "source": ""}
    runs = [*seeds([0.93], lr=0.1), *seeds([0.5], lr=0.2)]

    comparison = compare(results(*runs, expect=[figure]), Question(where={"lr": 0.2}))

    assert comparison.expectations[0].mean == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("runs", "expected", "counts"),
    [
        ([trial_run(outcome="diverged")], {}, (1, 1, 1)),
        ([trial_run(outcome="failed", status="FAILED")], {}, (1, 1, 0)),
        ([trial_run(0.9)], {"metric": "test/r2"}, (1, 1, 0)),
        ([trial_run(0.9)], {"where": {"lr": 7}}, (0, 0, 0)),
    ],
)
def test_without_a_value_the_answer_is_insufficient_data(
    runs: list[Any], expected: dict[str, Any], counts: tuple[int, int, int]
) -> None:
    checked = check(*runs, **expected)

    assert checked.finding == "insufficient data"
    assert checked.mean is None
    assert (checked.candidates, checked.trials, checked.diverged) == counts
