"""A DataFrame of another program's runs becomes the table that every report is made from."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.core.errors import InputError
from harness.store.read.external.frame import results_of_frame
from harness.store.read.results import RUN_COLUMNS
from tests.external_support import results, runs


def notes(frame: pd.DataFrame) -> tuple[str, ...]:
    external = results(frame).external
    assert external is not None
    return external.notes


def test_each_run_is_a_trial() -> None:
    table = results(name="theirs")

    trials = table.trials
    assert len(trials) == len(runs()) == trials["run_id"].nunique()
    assert trials["config_id"].nunique() == 3 * 2 * 2
    assert set(RUN_COLUMNS) <= set(trials)
    assert table.scalars == ("given/acc",)
    assert (table.experiment, table.metric, table.direction) == ("theirs", "acc", "max")
    assert table.external is not None
    assert table.external.by == ("optimizer",)


def test_a_frame_is_not_changed() -> None:
    frame = runs()
    before = frame.copy(deep=True)

    results(frame)

    pd.testing.assert_frame_equal(frame, before)


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_the_order_and_the_index_of_rows_do_not_matter(chance: int) -> None:
    frame = runs(seeds=2, tasks=("digits",))
    mixed = frame.sample(frac=1, random_state=chance)

    keys = ["config_id", "seed"]
    first, second = (results(of).trials.set_index(keys).sort_index() for of in (frame, mixed))

    pd.testing.assert_series_equal(first["given/acc"], second["given/acc"])


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("optimizer", None, "row 3: there is no optimizer"),
        ("dataset", "", "row 3: there is no dataset"),
        ("seed", np.nan, "row 3: there is no seed"),
        ("acc", "n/b", "row 3: acc is 'n/b', and must be a number"),
        ("acc", "0,93", "write decimals with a point"),
        ("acc", "93%", "write a percentage as a number"),
        ("seed", 2, "row 2 and row 3 are one run: optimizer=sgd, lr=0.001, dataset=digits, seed=2"),
    ],
)
def test_a_row_that_cannot_count_is_refused_with_its_place(
    column: str, value: Any, said: str
) -> None:
    frame = runs().astype(object)
    frame.loc[3, column] = value

    with pytest.raises(InputError) as error:
        results(frame)

    assert said in str(error.value)


def test_many_faults_are_counted() -> None:
    with pytest.raises(InputError, match=r"row 4: .*\n.*and 67 faults more"):
        results(runs(acc="high"))


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (
            {"by": "optimiser"},
            "--by: there is no column 'optimiser'\n    did you mean 'optimizer'?",
        ),
        ({"task": "data"}, "--task: there is no column 'data'\n    did you mean 'dataset'?"),
        ({"seed": "sed"}, "did you mean 'seed'?"),
        ({"metric": "accuracy:max"}, "--metric: there is no column 'accuracy'"),
        ({"config": ["lr", "wd"]}, "--config: there is no column 'wd'"),
        ({"metric": "acc"}, "say which direction is better: --metric acc:max or"),
        ({"metric": "acc:higher"}, "say which direction is better: --metric acc:max or"),
        ({"metric": ":max"}, "has no direction"),
        ({"by": []}, "--by: names no column"),
        ({"task": "optimizer"}, "'optimizer' is named twice"),
        ({"seed": "acc"}, "'acc' is named twice"),
    ],
)
def test_wrong_roles_are_refused(roles: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as error:
        results(**roles)

    assert said in str(error.value)


def test_all_unknown_columns_are_told_at_once() -> None:
    with pytest.raises(InputError) as error:
        results(by="a", task="b", config="c")

    assert len(error.value.problems) == 3


def test_repeated_runs_point_to_the_setting_that_nobody_named() -> None:
    frame = runs(wall=np.arange(72) / 7)

    with pytest.raises(InputError, match=r"more are repeated\n    they differ in lr: name with"):
        results(frame, config=None)


def test_a_copied_row_is_refused() -> None:
    frame = runs()
    with pytest.raises(InputError, match="leave the repeated rows out"):
        results(pd.concat([frame, frame.iloc[:1]], ignore_index=True))


def test_two_columns_of_one_name_are_refused() -> None:
    frame = runs()
    frame.columns = pd.Index(["optimizer", "dataset", "acc", "seed", "acc"])
    with pytest.raises(InputError, match="there are several columns 'acc'"):
        results(frame, config=None)


def test_columns_may_be_numbered() -> None:
    frame = runs().rename(columns={"acc": 0, "lr": 1}).set_index("seed", drop=False)

    assert results(frame, metric="0:max", config="1").scalars == ("given/0",)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="there are no runs"):
        results(runs().iloc[:0])


@pytest.mark.parametrize("column", ["optimizer", "dataset"])
def test_versions_that_are_one_number_are_refused(column: str) -> None:
    frame = runs().astype(object)
    frame.loc[frame.index[:3], column] = "1.1"
    frame.loc[frame.index[3:6], column] = "1.10"
    with pytest.raises(InputError, match=r"1\.1 and 1\.10 of"):
        results(frame)


def test_a_score_that_is_not_finite_diverged_and_a_missing_one_failed() -> None:
    frame = runs().astype(object)
    frame.loc[[0, 1, 2], "acc"] = ["nan", np.inf, None]

    trials = results(frame).trials

    assert trials["outcome"][:4].tolist() == ["diverged", "diverged", "failed", "done"]
    assert trials["reason"][:3].tolist() == ["its acc is not finite"] * 2 + ["it has no acc"]
    assert trials["given/acc"][:3].isna().all()


@pytest.mark.parametrize("prefix", ["val_", "val/", "valid_", "validation/"])
def test_the_test_splits_metric_goes_with_the_validation_splits(prefix: str) -> None:
    test = f"test{prefix[-1]}acc"
    frame = runs().rename(columns={"acc": f"{prefix}acc"}).assign(**{test: 0.5})

    assert results(frame, metric=f"{prefix}acc:max").scalars == (
        f"given/{prefix}acc",
        f"given/{test}",
    )


def test_columns_keep_their_names_unless_a_report_means_something_else_by_them() -> None:
    frame = runs().rename(columns={"optimizer": "version", "dataset": "problem", "seed": "run"})
    others = {"model": "mlp", "model.width": "8", "net.width": "3", "dataset": "x"}
    frame = frame.assign(**others)

    table = results(
        frame,
        by="version",
        task="problem",
        seed="run",
        config=["lr", "model", "model.width", "net.width", "dataset"],
    )

    assert table.external is not None
    assert table.external.fields == {
        "version": "version (column)",
        "lr": "lr",
        "model": "model",
        "model.width": "model width",
        "net.width": "net.width",
        "dataset": "dataset (column)",
        "problem": "problem",
        "run": "seed",
    }
    assert table.external.by == ("version (column)",)
    assert set(table.trials["dataset"]) == {"digits", "wine"}
    assert (table.trials["version"] == "").all()


@pytest.mark.parametrize("name", sorted({*RUN_COLUMNS, "trial_id", "config_id", "best/epoch"}))
def test_any_column_of_the_harness_may_be_a_column_of_others(name: str) -> None:
    frame = runs(seeds=1).rename(columns={"optimizer": name})

    table = results(frame, by=name)

    assert set(table.trials[f"{name} (column)"]) == {"sgd", "adam", "lion"}


def test_tasks_of_several_columns_and_of_numbers_have_names() -> None:
    frame = runs(depth=3)

    assert set(results(frame, task=["dataset", "depth"]).trials["dataset"]) == {
        "digits, depth 3",
        "wine, depth 3",
    }
    assert set(results(frame, task="depth", config=["lr", "dataset"]).trials["dataset"]) == {
        "depth 3"
    }


def test_a_trial_describes_itself_for_conditions() -> None:
    frame = runs().assign(augment="flip", bias=True, momentum=np.nan)
    frame["net.width"] = 8

    table = results(frame, config=["lr", "augment", "net.width", "bias", "momentum"])

    assert json.loads(table.trials["trial"][0]) == {
        "dataset": "digits",
        "optimizer": "sgd",
        "lr": 0.001,
        "augment": ["flip"],
        "net": {"width": 8},
        "bias": True,
        "momentum": None,
        "seed": 0,
    }


def test_settings_that_nobody_named_are_told() -> None:
    frame = runs(host=["a", "b"] * 36, seconds=np.arange(72.0), wd=0.1)

    (note,) = notes(frame)
    assert note.startswith("Runs of one config differ in host, and are averaged as if")
    assert notes(frame.drop(columns="host")) == ()


def test_contenders_that_differ_in_capitals_are_told() -> None:
    frame = runs()
    frame.loc[:2, "optimizer"] = "SGD"

    assert notes(frame) == ("SGD and sgd are different values of optimizer.",)


def test_runs_without_seeds_are_told_and_copies_counted() -> None:
    frame = runs().drop(columns="seed")
    table = results_of_frame(
        pd.concat([frame, frame.iloc[:2]]), by="optimizer", metric="acc:max", config=["lr"]
    )

    assert table.external is not None
    first, second = table.external.notes[:2]
    assert "cannot be paired" in first
    assert second == "Runs that equal another in every column, and count as runs: 2."
    assert "seed" not in table.trials
