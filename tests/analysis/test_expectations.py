"""Published figures."""

from __future__ import annotations

from typing import Any

import pytest

from harness.analysis.comparison import Question, compare
from harness.analysis.expectations import PublishedFigure, judge
from harness.report.blocks import ReportTable
from harness.report.sections.expectations import SECTION, Expectations
from tests.stored import results, seeds, trial_run


def check(*runs: Any, **expected: Any) -> PublishedFigure:
    figure = {"metric": "test/accuracy", "value": 0.9, "tolerance": 0.01, "source": "paper"}
    found = compare(results(*runs, expect=[figure | expected]), Question())
    (checked,) = found.expectations
    return checked


def shown(checked: PublishedFigure) -> str:
    """What the report's table says of a figure."""
    table, *_ = SECTION.blocks(Expectations((checked,)))
    assert isinstance(table, ReportTable)
    return table.rows[0][-1]


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


INCOMPLETE: dict[str, list[Any]] = {
    "of 3 trials 1 diverged": seeds([0.92, 0.92, None]),
    "of 3 trials 1 failed": [
        *seeds([0.92, 0.92]),
        trial_run(outcome="failed", status="FAILED", seed=2),
    ],
    "of 3 trials 1 not finished": [*seeds([0.92, 0.92]), trial_run(outcome=None, seed=2)],
    "of 3 trials 1 without the metric": [*seeds([0.92, 0.92]), trial_run(0.92, seed=2)],
    "of 3 trials 1 missing": [*seeds([0.92, 0.92]), *seeds([0.1, 0.1, 0.1], lr=7.0)],
    "of 4 trials 1 diverged, 1 missing": [
        *seeds([0.92, 0.92, None]),
        *seeds([0.1, 0.1, 0.1, 0.1], lr=7.0),
    ],
}


@pytest.mark.parametrize("reason", INCOMPLETE)
def test_a_figure_is_reproduced_by_every_seed_or_not_at_all(reason: str) -> None:
    where = {"lr": float(INCOMPLETE[reason][0].params["lr"])}
    checked = check(*INCOMPLETE[reason], where=where)
    far = check(*INCOMPLETE[reason], where=where, value=0.5)

    assert (checked.finding, checked.n) == ("insufficient data", 2)
    assert checked.mean == pytest.approx(0.89)
    assert shown(checked) == (
        f"insufficient data: {reason}; the mean of the others lies within the tolerance"
    )
    assert far.finding == "off"
    assert shown(far) == f"off by +0.3900 (0.3800 too far), of the others: {reason}"


@pytest.mark.parametrize(("wanted", "finding"), [(2, "reproduced"), (3, "insufficient data")])
def test_the_file_says_how_many_seeds_there_should_be(wanted: int, finding: str) -> None:
    """The trials of its second seed were never run, of this config or of another."""
    runs = seeds([0.92, 0.92])
    config_id = runs[0].params["config_id"]
    figure = {"metric": "test/accuracy", "value": 0.9, "tolerance": 0.01, "where": {}}
    question = Question(
        planned=[run.params["trial_id"] for run in runs], seeds={config_id: wanted}, expect=[figure]
    )
    others = seeds([0.1] * 9, lr=7.0)
    assert compare(results(*runs, *others), question).expectations[0].finding == finding


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


@pytest.mark.parametrize("scale", [1e-300, 1e-14, 1.0, 1e12])
@pytest.mark.parametrize(
    ("apart", "tolerance", "finding"),
    [(0, 0.0, "reproduced"), (1, 0.01, "reproduced"), (2, 0.01, "off"), (1, 0.0, "off")],
)
def test_a_tolerance_is_met_at_any_size(
    scale: float, apart: int, tolerance: float, finding: str
) -> None:
    """Means that differ from the figure by the order of a sum alone do not differ."""
    mean = (0.1 + 0.2 + 0.3) / 3 + apart / 100
    assert judge(mean * scale, 0.2 * scale, tolerance * scale) == finding
