"""Questions asked of results, and the trials that they count."""

from __future__ import annotations

import pytest

from harness.analysis.comparison import Question, compare
from harness.analysis.ranking import choose_score, lr_edge
from harness.core.errors import InputError
from harness.store.names import PARAM_TRIAL, TAG_DIRECTION, TAG_METRIC, TAG_POINT_NUMBER
from harness.store.read.results import results_table
from tests.stored import results, seeds, small_grid, sweep_run, trial_run

GRID = small_grid()


@pytest.mark.parametrize(
    ("best", "tried", "edge"),
    [
        ("0.01", ("0.001", "0.01", "0.1"), ""),
        ("0.001", ("0.001", "0.01", "0.1"), "lowest"),
        ("0.1", ("0.001", "0.01", "0.1"), "highest"),
        ("0.1", ("0.1",), "only"),
    ],
)
def test_where_the_best_rate_lies(best: str, tried: tuple[str, ...], edge: str) -> None:
    assert lr_edge(best, tried) == edge


def test_the_best_rate_of_each_optimizer_is_chosen_on_val() -> None:
    """Test would choose otherwise: it is lower where val is higher."""
    runs = [
        trial_run(0.9, test=0.7, optimizer="adam", lr=0.01),
        trial_run(0.8, test=0.99, optimizer="adam", lr=0.1),
        trial_run(0.85, test=0.8, optimizer="sgd", lr=0.1),
        trial_run(outcome="diverged", optimizer="sgd", lr=1.0),
        trial_run(0.7, test=0.8, optimizer="sgd", lr=0.01),
        trial_run(outcome="failed", status="FAILED", optimizer="sgd", lr=10.0),
    ]

    adam, sgd = compare(results(*runs), Question()).groups

    assert adam.best.labels["lr"] == "0.01"
    assert (adam.best.mean, adam.best.test_mean) == (0.9, 0.7)
    assert adam.edge == "lowest"
    # A rate that diverged was tried; of one that failed nothing is known.
    assert sgd.tried == ("0.01", "0.1", "1")
    assert sgd.edge == ""


def test_groups_follow_the_question() -> None:
    by_optimizer = compare(results(*GRID), Question(by=("optimizer",))).groups
    by_default = compare(results(*GRID), Question()).groups

    assert [g.best.labels["optimizer"] for g in by_optimizer] == ["adam", "sgd"]
    assert len(by_default) == 4  # two models × two optimizers


def test_ties_within_a_group_are_counted() -> None:
    runs = [*seeds([0.9, 0.9], lr=0.1), *seeds([0.9, 0.9], lr=0.2)]
    runs += seeds([0.8, 0.8], optimizer="adam")

    first, second = compare(results(*runs), Question()).groups

    assert (first.best.labels["lr"], first.tied) == ("0.1", 1)
    assert second.tied == 0


def test_data_sets_are_ranked_apart() -> None:
    runs = [trial_run(0.6, dataset="iris"), trial_run(0.9, dataset="digits")]

    found = compare(results(*runs), Question())

    assert found.tasks == ("digits", "iris")
    assert [config.rank for config in found.configs] == [1, 1]
    assert "dataset" not in found.shown


def test_only_trials_that_meet_the_condition() -> None:
    found = compare(results(*GRID), Question(where={"lr": 0.01, "optimizer": ["adam"]}))

    assert len(found.trials) == 6
    assert found.filtered == 30
    assert found.shown == ("model",)


def test_an_unmet_condition_lists_the_values_that_exist() -> None:
    with pytest.raises(InputError, match=r"lr=0.02.*\n.*0.001, 0.01, 0.1"):
        compare(results(*GRID), Question(where={"lr": 0.02}))


@pytest.mark.parametrize(
    "question",
    [Question(where={"learning_rate": 1}), Question(by=("optimiser",)), Question(metric="val/acc")],
)
def test_an_unknown_name_is_an_error_with_the_closest(question: Question) -> None:
    with pytest.raises(InputError, match="allowed: "):
        compare(results(*GRID), question)


def test_trials_outside_the_plan_are_left_out_and_missing_ones_counted() -> None:
    runs = seeds([0.9, 0.8, 0.7])
    planned = [runs[0].params["trial_id"], runs[1].params["trial_id"], "not run yet"]

    found = compare(results(*runs), Question(planned=planned))

    assert (len(found.trials), found.unplanned, found.missing) == (2, 1, 1)


def test_a_plan_without_any_run_is_an_error() -> None:
    with pytest.raises(InputError, match="none of the 1 trials"):
        compare(results(trial_run(0.9)), Question(planned=["other"]))


def test_another_metric_is_read_after_the_last_epoch() -> None:
    runs = [trial_run(0.9, metrics={"final/val/loss": 0.3}), trial_run(0.8, lr=0.5)]

    loss = compare(results(*runs), Question(metric="val/loss"))
    final = compare(results(*runs), Question(metric="final/val/accuracy"))

    assert (loss.score.column, loss.score.direction) == ("final/val/loss", "min")
    assert loss.configs[0].mean == 0.3
    assert (loss.configs[1].n, loss.configs[1].rank) == (0, None)
    assert final.configs[0].mean == pytest.approx(0.89)


def test_a_score_says_whether_the_test_split_chose() -> None:
    scalars = ["best/test/accuracy", "best/val/accuracy", "final/test/accuracy", "final/val/loss"]

    assert choose_score(scalars, "test/accuracy", "max").saw_test
    assert choose_score(scalars, "test/accuracy", "max").test is None
    assert choose_score(scalars, "val/accuracy", "max").test == "test/accuracy"
    assert not choose_score(scalars, "val/accuracy", "max").saw_test
    assert choose_score(scalars, "val/accuracy", "max", "test/accuracy").saw_test
    # Which epoch is the best was decided by the test split.
    assert choose_score(scalars, "test/accuracy", "max", "best/val/accuracy").saw_test
    assert not choose_score(scalars, "test/accuracy", "max", "val/loss").saw_test


def test_lower_is_better_if_the_sweep_minimises() -> None:
    tags = {TAG_METRIC: "val/loss", TAG_DIRECTION: "min"}
    runs = [trial_run(lr=lr, metrics={"best/val/loss": lr}, tags=tags) for lr in (0.2, 0.1)]
    minimised = results_table("demo", [sweep_run(metric="val/loss", direction="min"), *runs])
    assert minimised is not None

    assert [config.labels["lr"] for config in compare(minimised, Question()).configs] == [
        "0.1",
        "0.2",
    ]


def test_points_that_a_search_chose_by_are_not_ranked_with_its_winners() -> None:
    """The best points are too good: they were chosen by the seed that they were trained on."""
    tried = [
        trial_run(0.9 + n / 1000, lr=0.01 * (n + 1), seed=0, tags={TAG_POINT_NUMBER: str(n)})
        for n in range(8)
    ]
    again = [
        trial_run(score, lr=lr, seed=seed, optimizer=optimizer)
        for optimizer, lr, score in (("adam", 0.05, 0.88), ("sgd", 0.001, 0.8))
        for seed in (5, 6)
    ]
    found = compare(results(*tried, *again), Question())
    assert len(found.trials) == 4
    assert [config.labels["lr"] for config in found.configs] == ["0.05", "0.001"]
    assert found.unplanned == 0
    assert found.tuning is not None
    assert found.exploration is found.tuning
    assert len(found.tuning.trials) == 8
    assert found.tuning.tuning is None
    narrowed = compare(results(*tried, *again), Question(where={"optimizer": "sgd"}))
    assert len(narrowed.trials) == 2
    ids = {run.params[PARAM_TRIAL] for run in again[:2]}
    planned = compare(results(*tried, *again), Question(planned=ids))
    assert (len(planned.trials), planned.unplanned) == (2, 2)
    assert planned.tuning is not None
    of_sweep = compare(results(*tried, *again), Question(planned=ids, tuning=False))
    assert (of_sweep.tuning, of_sweep.unplanned) == (None, 10)


def test_points_of_a_search_are_ranked_if_there_are_no_other_trials() -> None:
    tried = [trial_run(0.9, lr=0.1 * (n + 1), tags={TAG_POINT_NUMBER: str(n)}) for n in range(3)]
    found = compare(results(*tried), Question())
    assert (len(found.trials), found.tuning) == (3, None)
