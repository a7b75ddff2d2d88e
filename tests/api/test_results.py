"""A small sweep from Python, and its results: tables, curves, comparisons."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest

import harness
from harness.api.tables import typed_column
from tests.api.own_net import Net


def experiment() -> harness.Experiment:
    return harness.Experiment(
        "mine",
        trial={"dataset": "logic_gate", "epochs": 2, "val_fraction": 0.0, "optimizer": "sgd"},
        grid={
            "model": ["perceptron", {"name": Net, "width": 4}],
            "lr": [1, 0.5],
            "seed": range(2),
        },
        metric="test/loss",
        artifacts="none",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Path]:
    """A working folder with an empty store, entered."""
    folder = tmp_path_factory.mktemp("api")
    (folder / "mlruns").mkdir()
    shutil.copy(empty_database, folder / "mlruns" / "mlflow.db")
    with chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def results(folder: Path) -> harness.Results:
    return experiment().run(executor="inline")


def test_trials_are_typed(results: harness.Results) -> None:
    trials = results.trials
    assert len(trials) == len(results) == 8
    kinds = {name: str(trials[name].dtype) for name in trials}
    assert kinds["lr"] == kinds["time/train_s"] == kinds["best/test/loss"] == "float64"
    assert kinds["seed"] == kinds["epochs"] == "int64"
    assert kinds["model.width"] == "Int64"
    assert kinds["exclusive"] == "bool"
    assert str(kinds["started"]).startswith("datetime64")
    for name in ("trial", "config", "outcome", "model", "optimizer", "run_id"):
        assert pd.api.types.is_string_dtype(trials[name]), name
    assert set(trials["lr"]) == {1.0, 0.5}
    widths = trials["model.width"]
    assert widths[trials["model"] == "perceptron"].isna().all()
    assert (widths.dropna() == 4).all()
    assert set(trials["outcome"]) == {"done"}


@pytest.mark.parametrize(
    ("texts", "name", "dtype", "first"),
    [
        (["1", "2"], "optimizer.k", "int64", 1),
        (["1", "-"], "optimizer.k", "Int64", 1),
        (["1", "none"], "optimizer.k", "Int64", 1),
        (["1", "0.5"], "optimizer.k", "float64", 1.0),
        (["1e-05", "-"], "optimizer.k", "float64", 1e-5),
        (["1", "2"], "lr", "float64", 1.0),
        (["none", "none"], "grad_clip", "float64", None),
        (["true", "false"], "optimizer.k", "boolean", True),
        (["true", "-"], "optimizer.k", "boolean", True),
        (["auto", "1"], "optimizer.k", "str", "auto"),
        (["none", "relu"], "model.k", "str", "none"),
        (["[24, 24]", "[8]"], "model.hidden", "str", "[24, 24]"),
        (["1", "2"], "model", "str", "1"),
        (["none", "none"], "augment", "str", "none"),
        (["none", "-"], "dataset.size", "str", None),
    ],
)
def test_a_column_has_the_type_of_its_values(
    texts: list[str], name: str, dtype: str, first: object
) -> None:
    typed = typed_column(pd.Series(texts), name)
    assert str(typed.dtype) == dtype
    assert typed[0] == first if first is not None else pd.isna(typed[0])


def test_curves_are_tidy(results: harness.Results) -> None:
    curves = results.curves()
    assert list(curves.columns) == ["trial", "epoch", "metric", "value"]
    assert set(curves["trial"]) == set(results.trials["trial"])
    assert set(curves["metric"]) >= {"train/loss", "test/loss"}
    last = curves[(curves["metric"] == "test/loss") & (curves["epoch"] == 2)]
    final = results.trials.set_index("trial")["final/test/loss"]
    assert last.set_index("trial")["value"].to_dict() == pytest.approx(final.to_dict())
    assert results.curves("lr")["value"].isin([1.0, 0.5]).all()
    assert results.curves(["no/such"]).empty


def test_a_comparison_has_every_format(results: harness.Results, tmp_path: Path) -> None:
    comparison = results.compare(by="model")
    assert "perceptron" in comparison.verdict
    assert comparison.verdict.splitlines()[0].split(".")[0] in comparison.to_text().replace(
        "\n", " "
    )
    assert str(comparison) == repr(comparison) == comparison.to_text().rstrip()
    assert comparison.to_markdown().startswith("# mine")
    assert r"\section{mine}" in comparison.to_latex()
    assert comparison.to_csv(tmp_path / "mine.csv").count("\n") == 5
    assert (tmp_path / "mine.csv").read_text() == comparison.to_csv()
    assert json.loads(comparison.to_json())["experiments"][0]["experiment"] == "mine"
    comparison.to_html(tmp_path / "mine.html")
    assert "<html" in (tmp_path / "mine.html").read_text()
    with pytest.raises(harness.InputError, match="cannot be written"):
        comparison.to_markdown(tmp_path / "no" / "folder.md")


def test_a_notebook_shows_the_whole_page_in_a_frame(results: harness.Results) -> None:
    shown = results.compare()._repr_html_()
    assert shown.startswith("<iframe srcdoc=")
    assert shown.count("<") == 2, "the page is escaped: nothing of it reaches the notebook's page"
    assert "allow-same-origin" not in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"by": "modle"}, "--by: no field 'modle'"),
        ({"section": "verdikt"}, "--section: no section 'verdikt'"),
        ({"metric": "val/acc"}, "val/acc"),
        ({"where": {"lr": 7}}, "lr"),
        ({"baseline": "adam"}, "adam"),
    ],
)
def test_a_question_without_an_answer_is_told_at_once(
    results: harness.Results, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(harness.InputError) as caught:
        results.compare(**arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_conditions_choose_trials(results: harness.Results) -> None:
    report = json.loads(results.compare(where={"lr": [0.5]}, section="all").to_json())
    rows = report["experiments"][0]["leaderboard"]["rows"]
    assert len(rows) == 2


def test_what_was_run_is_found_again(
    results: harness.Results, capsys: pytest.CaptureFixture[str]
) -> None:
    again = experiment().run(executor="inline")
    assert "nothing to run" in capsys.readouterr().out
    for others in (again, harness.results("mine"), experiment().results()):
        pd.testing.assert_frame_equal(others.trials, results.trials)


def test_results_are_those_that_the_experiment_asks_for(results: harness.Results) -> None:
    smaller = harness.Experiment(
        "mine",
        trial={"dataset": "logic_gate", "epochs": 2, "val_fraction": 0.0, "optimizer": "sgd"},
        grid={"model": [{"name": Net, "width": 4}], "lr": [0.5], "seed": [0, 1]},
        metric="test/loss",
        artifacts="none",
    )
    assert len(smaller.results()) == 2
    assert set(smaller.results().trials["lr"]) == {0.5}


def test_the_store_has_the_experiment_and_its_code(results: harness.Results) -> None:
    details = results._stored.details
    parent = results._stored.parent_id
    assert details is not None
    written = details.text(parent, "experiment.yaml")
    assert written is not None
    assert "name: mine" in written
    code = details.text(parent, "code.json")
    assert code is not None
    assert "class Net(nn.Module)" in json.loads(code)["files"].popitem()[1]["text"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("mime", "did you mean 'mine'?"),
        ("mine.yaml", "harness.load('mine.yaml').results()"),
        (3, "must be an experiment's name"),
    ],
)
def test_unknown_results_are_told(results: harness.Results, source: object, message: str) -> None:
    with pytest.raises(harness.InputError) as caught:
        harness.results(source)  # type: ignore[call-overload]
    assert message in str(caught.value)
