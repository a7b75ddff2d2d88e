"""Values that are longer than MLflow allows: written as files, and read back whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.analysis.comparison import Question, compare
from harness.core.errors import StoreError
from harness.experiment.experiment import Expectation
from harness.experiment.grid import Axis
from harness.experiment.plan import Plan
from harness.inference.trained_model import find_run
from harness.store import names
from harness.store.long_values import FOLDER, is_path, longest_param, longest_tag, shorten
from harness.store.read.results import read_results
from harness.store.read.run_details import RunDetails
from harness.store.read.runs import ClientReader
from harness.store.store import Store, open_store
from harness.store.write.sql_backend import SqlBackend
from tests.store.store_support import done, make_plan, write
from tests.support import make_trial

LAYERS = 3000
SOURCE = "a paper with a long title " * 500


def long_plan() -> Plan:
    """Two models that differ in the last of their many layers alone, and a long list of figures."""
    models = [{"name": "mlp", "hidden": [16] * LAYERS + [last]} for last in (8, 9)]
    trials = [make_trial(model=model) for model in models]
    figure = Expectation("test/accuracy", 0.5, 0.1, SOURCE, {})
    axis = Axis("model.hidden", ())
    names_of = ["x" * 400, "trial 1"]
    return make_plan(trials, names_of, expect=(figure,), axes=(axis,), description="long " * 10_000)


@pytest.fixture(scope="module", params=["tables", "client"])
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store with both trials, written into MLflow's tables or through its client."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("project")
        (folder / "mlruns").mkdir()
        patch.chdir(folder)
        if request.param == "client":
            patch.setattr(SqlBackend, "of", lambda _: None)
        opened = open_store(folder)
        write(opened, long_plan(), {0: done(0.7), 1: done(0.8)})
        yield opened


def test_both_readers_give_whole_values(store: Store) -> None:
    experiment = store.experiment("test", create=False)
    raw = ClientReader(store).runs(experiment)

    runs = store.runs(experiment)

    stored = [run for run in runs if run.tags[names.TAG_KIND] == names.TRIAL]
    for run, planned in zip(stored, long_plan().trials, strict=True):
        assert json.loads(run.tags[names.TAG_TRIAL]) == planned.trial.resolved()
        assert run.params["model.hidden"] == planned.trial.flat()["model.hidden"]
    assert max(len(v) for run in raw for v in run.tags.values()) <= longest_tag()
    assert max(len(v) for run in raw for v in run.params.values()) <= longest_param()
    held = [run.params["model.hidden"] for run in raw if "model.hidden" in run.params]
    assert len(set(held)) == 2
    assert all(is_path(value) for value in held)


def test_compare_tells_the_configs_apart(store: Store) -> None:
    found = compare(read_results(store, "test"), Question())

    assert [config.n for config in found.configs] == [1, 1]
    assert found.shown == ("model",)
    assert [figure.source for figure in found.expectations] == [SOURCE]


def test_predict_finds_the_whole_trial(store: Store) -> None:
    plan = long_plan()
    run = next(iter(read_results(store, "test").trials["run_id"]))

    assert find_run(store, run).resolved == plan.trials[0].trial.resolved()


@pytest.mark.parametrize("damage", ["lost", "cut"])
def test_a_lost_value_is_an_error_and_no_other_trial(workspace: Path, damage: str) -> None:
    store = open_store(workspace)
    write(store, long_plan(), {0: done(), 1: done()})
    for file in (workspace / "mlruns").rglob(f"{FOLDER}/*.txt"):
        if damage == "lost":
            file.unlink()
        else:
            file.write_text(file.read_text()[:-5])

    with pytest.raises(StoreError, match=r"long_values/[0-9a-f]{64}\.txt is missing or damaged"):
        read_results(store, "test")


@pytest.mark.slow
def test_a_trial_that_an_earlier_release_left_out_is_read_from_its_provenance(
    workspace: Path,
) -> None:
    store = open_store(workspace)
    write(store, long_plan(), {0: done(), 1: done()})
    for run in ClientReader(store).runs(store.experiment("test")):
        if run.tags[names.TAG_KIND] == names.TRIAL:
            store.client.delete_tag(run.run_id, names.TAG_TRIAL)

    trials = read_results(store, "test").trials

    stored = [json.loads(trial) for trial in trials["trial"]]
    assert stored == [planned.trial.resolved() for planned in long_plan().trials]


def test_a_tag_that_is_set_later_may_be_long(workspace: Path) -> None:
    store = open_store(workspace)
    write(store, make_plan([make_trial()]), {0: done()})
    experiment = store.experiment("test")
    run = store.runs(experiment)[-1]

    store.set_tag(run.run_id, "harness.search.study", "s" * 9000)

    (tagged,) = (one for one in store.runs(experiment) if one.run_id == run.run_id)
    assert tagged.tags["harness.search.study"] == "s" * 9000


def test_a_project_that_was_moved_still_has_its_values(tmp_path: Path) -> None:
    store = open_store(tmp_path / "before")
    write(store, long_plan(), {0: done(), 1: done()})
    (tmp_path / "before").rename(tmp_path / "after")

    trials = read_results(open_store(tmp_path / "after"), "test").trials

    assert len(set(trials["trial"])) == 2
    assert all(len(trial) > longest_tag() for trial in trials["trial"])


def test_what_is_short_enough_stays() -> None:
    assert shorten({"a": "x" * 10}, 10) == ({"a": "x" * 10}, {})
    short, files = shorten({"a": "x" * 11, "b": "x" * 11, "mlflow.note.content": "y" * 11}, 10)
    assert short["a"] == short["b"]
    assert files == {short["a"]: "x" * 11}
    assert short["mlflow.note.content"] == "y" * 9 + "…"


def test_reading_a_file_through_a_server_leaves_nothing_behind(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(workspace)
    write(store, make_plan([make_trial()]), {0: done()})
    temporary = workspace / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    monkeypatch.setattr("harness.store.read.run_files.local_path", lambda _: None)
    run_id = read_results(store, "test").trials["run_id"].iloc[0]

    assert '"trial"' in (RunDetails(store).text(run_id, names.PROVENANCE_FILE) or "")

    assert list(temporary.iterdir()) == []
