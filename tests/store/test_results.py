"""The table of trials, from a real store and from runs as they stand in one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow.entities import Metric, Param, RunTag

from harness.core.errors import InputError
from harness.experiment.trial import COMPONENT_FIELDS, new_options
from harness.store import names
from harness.store.read import results as reading
from harness.store.read import runs as reader
from harness.store.read import tables
from harness.store.read.results import experiment_names, find_trials, flatten, read_results
from harness.store.read.runs import StoredRun
from harness.store.store import Store, open_existing_store, open_store
from tests.stored import results, seeds, sweep_run, trial_run, without
from tests.support import make_trial

DEAD = json.dumps({"host": "", "boot": "", "pid": 1, "born": "0"})


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two experiments: "older", and "newer" of three trials and a foreign run."""
    store = open_store(tmp_path_factory.mktemp("project"))
    write(store, "older", [sweep_run(), *seeds([0.5], lr=0.5)])
    expect = [{"metric": "test/accuracy", "value": 0.9, "tolerance": 0.1, "source": ""}]
    newer = [sweep_run(expect), *seeds([0.8, 0.9, None], optimizer="adam")]
    write(store, "newer", [*newer, StoredRun("x", "by hand", "FINISHED", 9)], begin=100)
    return store


def write(store: Store, experiment: str, runs: list[StoredRun], begin: int = 1) -> list[str]:
    """Returns the runs' ids. begin: the start time of the first."""
    client = store.client
    experiment_id = client.create_experiment(experiment)
    made: list[str] = []
    for run in runs:
        ours = client.create_run(experiment_id, start_time=begin + len(made), run_name=run.name)
        run_id = ours.info.run_id
        made.append(run_id)
        client.log_batch(
            run_id,
            [Metric(k, v, 0, 0) for k, v in run.metrics.items()],
            [Param(k, v) for k, v in run.params.items()],
            [RunTag(k, v) for k, v in run.tags.items()],
        )
        if run.status != "RUNNING":
            client.set_terminated(run_id, run.status)
    return made


def test_a_row_is_a_trial_with_its_fields_and_scalars(store: Store) -> None:
    found = read_results(store, "newer")

    assert len(found.trials) == 3  # neither the sweep's own run nor the one made by hand
    assert list(found.trials["outcome"]) == ["done", "done", "diverged"]
    assert list(found.trials["seed"]) == [0, 1, 2]
    assert list(found.trials["best/val/accuracy"])[:2] == [0.8, 0.9]
    assert pd.isna(found.trials["best/val/accuracy"].iloc[2])
    assert set(found.trials["optimizer"]) == {"adam"}
    assert {"model.hidden", "lr", "trial_id"} <= set(found.fields)
    assert "best/val/accuracy" in found.scalars
    assert not set(found.scalars) & set(found.fields)
    assert (found.metric, found.direction, found.target) == ("val/accuracy", "max", None)
    assert found.expect[0]["value"] == 0.9


def test_tables_and_client_give_the_same_results(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    direct = read_results(store, "newer")
    server = Store(store.uri, store.client, store.home, None, None)
    monkeypatch.setattr(reader, "PAGE", 2)  # more than one page

    searched = read_results(server, "newer")

    columns = sorted(direct.trials.columns)
    assert sorted(searched.trials.columns) == columns
    pd.testing.assert_frame_equal(direct.trials[columns], searched.trials[columns])
    assert direct.fields == searched.fields


def test_reading_sends_no_request_for_a_single_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counted:
        requests = 0

        def __getattr__(self, name: str) -> Any:
            Counted.requests += 1
            return getattr(store.client, name)

    server = Store(store.uri, Counted(), store.home, None, None)  # type: ignore[arg-type]

    read_results(server, "newer")

    assert Counted.requests == 2  # the experiment's name, and one page


def test_results_of_unknown_tables_are_read_by_mlflow(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_TAGS", "SELECT * FROM no_such_table")

    assert len(read_results(store, "newer").trials) == 3


def test_experiments_are_named_newest_first(store: Store) -> None:
    store.client.create_experiment("without runs")

    assert experiment_names(store)[:2] == ["newer", "older"]
    assert "without runs" not in experiment_names(store)


def test_an_unknown_experiment_names_the_closest(store: Store) -> None:
    with pytest.raises(InputError, match=r"did you mean 'newer'.*older"):
        read_results(store, "never")


def test_an_experiment_without_trials_says_so(store: Store) -> None:
    write(store, "only a sweep", [sweep_run()])

    with pytest.raises(InputError, match="no trials yet"):
        read_results(store, "only a sweep")


def test_trials_are_found_by_the_prefix_of_either_id(store: Store) -> None:
    row = read_results(store, "older").trials.iloc[0]

    for reference in (row["run_id"], row["run_id"][:8], row["trial_id"], row["trial_id"][:8]):
        ((experiment, run),) = find_trials(store, reference)
        assert (experiment, run.info.run_id) == ("older", row["run_id"])
    assert find_trials(store, "ffffffffffff") == []
    assert find_trials(store, "%' OR '1'='1") == []


def test_a_missing_store_is_not_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlruns" / "mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{path}")

    with pytest.raises(InputError, match="no results yet"):
        open_existing_store()

    assert not path.exists()


def test_the_newest_run_of_a_trial_counts() -> None:
    done = trial_run(0.9, run_id="a", started=1)
    for later in (
        trial_run(outcome="failed", status="FAILED", run_id="b", started=2),
        trial_run(outcome="interrupted", status="KILLED", run_id="b", started=2),
        trial_run(outcome=None, status="RUNNING", run_id="b", started=2),
        trial_run(0.8, run_id="b", started=2),
    ):
        (row,) = results(done, later).trials.to_dict("records")
        assert row["run_id"] == "b"


def test_a_done_run_counts_more_than_a_newer_diverged_one() -> None:
    diverged = trial_run(outcome="diverged", run_id="b", started=2)

    (row,) = results(trial_run(0.9, run_id="a", started=1), diverged).trials.to_dict("records")

    assert (row["run_id"], row["outcome"]) == ("a", "done")


def test_superseded_runs_are_left_out_and_counted() -> None:
    gone = trial_run(0.9, run_id="a", started=1, tags={names.TAG_SUPERSEDED: "true"})

    found = results(gone, trial_run(0.8, run_id="b", started=2))

    assert list(found.trials["run_id"]) == ["b"]
    assert found.superseded == 1


@pytest.mark.parametrize(
    ("status", "tags", "expected"),
    [
        ("RUNNING", {}, "running"),
        ("SCHEDULED", {}, "running"),
        ("RUNNING", {names.TAG_PROCESS: DEAD}, "running"),  # of another host: nothing is known
        ("FINISHED", {names.TAG_OUTCOME: "done"}, "done"),
        ("FINISHED", {names.TAG_OUTCOME: "diverged"}, "diverged"),
        ("FINISHED", {}, "interrupted"),
        ("FINISHED", {names.TAG_OUTCOME: "splendid"}, "interrupted"),
        ("FAILED", {}, "failed"),
        ("KILLED", {}, "interrupted"),
    ],
)
def test_outcomes(status: str, tags: dict[str, str], expected: str) -> None:
    assert reading.outcome(status, tags) == expected


def test_a_run_whose_process_died_is_not_shown_as_running() -> None:
    from harness.store.coordination.processes import process_tag

    dead = json.loads(process_tag()) | {"born": "never"}

    assert reading.outcome("RUNNING", {names.TAG_PROCESS: process_tag()}) == "running"
    assert reading.outcome("RUNNING", {names.TAG_PROCESS: json.dumps(dead)}) == "interrupted"


def test_fields_are_those_of_trial_flat() -> None:
    trial = make_trial(optimizer={"name": "adam", "eps": 1e-7}, grad_clip=1.0)
    flat = {key: value for key, value in trial.flat().items() if key != "augment"}

    assert flatten(trial.resolved()) == flat


def test_a_run_that_has_just_started_has_its_config() -> None:
    """Its tags are stored, its params not yet."""
    first, begun = trial_run(0.9, seed=0), trial_run(seed=1, outcome=None, status="RUNNING")
    begun.params.clear()

    found = results(first, begun)

    assert list(found.trials["config_id"]) == [first.params["config_id"]] * 2
    assert list(found.trials["seed"]) == [0, 1]
    assert found.trials["trial_id"].nunique() == 2
    assert found.trials["augment"].nunique() == 1


def test_options_that_a_sweep_did_not_log_are_known() -> None:
    """One sweep leaves Adam's eps at its default, so out of its params; a later one moves it."""
    first = trial_run(0.9, optimizer="adam")
    second = trial_run(0.8, optimizer={"name": "adam", "eps": 1e-3})
    assert "optimizer.eps" not in first.params

    found = results(first, second, trial_run(0.7, optimizer="sgd")).trials

    assert list(found["optimizer.eps"]) == ["1e-08", "0.001", names.ABSENT]


def test_a_trial_of_before_an_option_reads_like_one_of_today() -> None:
    """Else the same configuration would be two: `digits` and `digits(task=auto)`."""
    resolved = make_trial().resolved()
    new = [
        f"{field}.{option}"
        for field, kind in COMPONENT_FIELDS.items()
        if field in resolved
        for option in new_options(kind, resolved[field]["name"])
    ]
    assert "dataset.task" in new
    trials = results(trial_run(0.9, seed=0), without(trial_run(0.8, seed=1), *new)).trials
    for name in new:
        assert trials[name].nunique(dropna=False) == 1, name
