from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import StoreError
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started
from harness.experiment.experiment import Expectation
from harness.experiment.grid import Axis
from harness.store.store import Store
from harness.store.write import background
from harness.store.write.backend import split_into_batches
from harness.store.write.background import BackgroundWriter
from harness.store.write.sweep_writer import StoredTrial, SweepWriter
from tests.store.store_support import (
    GOAL,
    by_client,
    children,
    digits,
    done,
    failed,
    make_plan,
    measured,
    points,
    runs,
    write,
)


def test_every_value_is_written_once_at_its_step(store: Store) -> None:
    records = done(0.8)
    epoch = records[2]
    assert isinstance(epoch, Measured)
    again = replace(epoch, values={"val/accuracy": 0.3})  # an epoch recorded twice
    losses = BatchLosses((64, 128), (2.0, 1.5))
    write(store, make_plan([digits()]), {0: [*records[:3], again, losses, *records[3:]]})
    run_id = children(store)["trial 0"].info.run_id
    assert points(store, run_id, "val/accuracy") == [(0, 0.1), (1, 0.8), (2, 0.75)]
    assert points(store, run_id, "train/loss") == [(0, 2.0), (1, 1.9), (2, 1.8)]
    assert points(store, run_id, "batch/loss") == [(64, 2.0), (128, 1.5)]


def test_summary_metrics_are_of_the_best_epoch_the_last_and_the_target(store: Store) -> None:
    write(store, make_plan([digits()]), {0: done(0.8)})
    metrics = children(store)["trial 0"].data.metrics
    assert metrics["best/epoch"] == 1
    assert metrics["best/val/accuracy"] == 0.8
    assert metrics["final/test/accuracy"] == 0.75
    assert metrics["epochs_to_target"] == 1
    assert metrics["examples_to_target"] == 1000
    assert "final/test/roc_auc" not in metrics  # undefined: no number is made up


def test_a_run_has_a_tag_for_cuda_graphs(store: Store) -> None:
    *before, ended = done()
    assert isinstance(ended, Ended)
    reason = "not captured: out of memory"
    write(
        store,
        make_plan([digits(), digits(lr=0.2)]),
        {0: [*before, replace(ended, metadata={"cuda_graph": reason})], 1: done()},
    )
    found = children(store)
    assert found["trial 0"].data.tags["harness.cuda_graph"] == reason
    assert "harness.cuda_graph" not in found["trial 1"].data.tags


def test_runs_of_a_sweep_share_their_params(store: Store) -> None:
    trials = [
        digits(lr=1e-3),
        digits(optimizer="adamw", lr=1e-1),
        digits(optimizer={"name": "adamw", "weight_decay": 0.5}),
        digits(model={"name": "mlp", "hidden": [8, 4]}),
    ]
    write(store, make_plan(trials), {number: done() for number in range(4)})
    params = [children(store)[f"trial {number}"].data.params for number in range(4)]
    assert len({frozenset(found) for found in params}) == 1
    assert [found["lr"] for found in params] == ["0.001", "0.1", "0.1", "0.1"]
    assert [found["optimizer.weight_decay"] for found in params] == ["0", "0.01", "0.5", "0"]
    assert params[3]["model.hidden"] == "[8, 4]"
    assert params[0]["grad_clip"] == "none"
    assert params[1]["trial_id"] == f"{1:016x}"
    assert params[1]["config_id"] == f"{257:016x}"
    assert "optimizer.eps" not in params[0]  # it is at its default everywhere


def test_a_param_that_a_component_lacks_is_marked(store: Store) -> None:
    trials = [digits(), digits(optimizer={"name": "adam", "eps": 1e-6})]
    write(store, make_plan(trials), {0: done(), 1: done()})
    found = children(store)
    assert found["trial 0"].data.params["optimizer.eps"] == "-"
    assert found["trial 1"].data.params["optimizer.eps"] == "1e-06"


def test_an_option_in_the_grid_is_a_param_even_at_its_default(store: Store) -> None:
    plan = make_plan([digits()], axes=(Axis("optimizer.weight_decay", (0.0,)),))
    write(store, plan, {0: done()})
    assert children(store)["trial 0"].data.params["optimizer.weight_decay"] == "0"


def test_parent_and_child_are_linked_and_tagged(store: Store) -> None:
    expect = (Expectation("test/accuracy", 0.96, 0.01, "a page", {"model": "mlp"}),)
    plan = make_plan([digits()], ["mlp sgd lr=0.1"], expect=expect, description="Why <b>this</b>.")
    writer = write(store, plan, {0: done()})
    parent, child = runs(store)
    assert parent.info.run_id == writer.run_id
    assert child.info.run_name == "mlp sgd lr=0.1"
    assert parent.info.run_name.startswith("sweep 2")
    assert parent.info.run_name.endswith("(1 trial)")
    up, down = parent.data.tags, child.data.tags
    assert (up["harness.kind"], down["harness.kind"]) == ("sweep", "trial")
    assert down["mlflow.parentRunId"] == parent.info.run_id
    assert json.loads(up["harness.expect"])[0]["where"] == {"model": "mlp"}
    assert json.loads(down["harness.trial"]) == plan.trials[0].trial.resolved()
    for tags in (up, down):
        assert tags["harness.metric"] == "val/accuracy"
        assert tags["harness.direction"] == "max"
        assert tags["harness.target"] == "0.7"
        assert tags["mlflow.source.type"] == "LOCAL"
    assert down["harness.outcome"] == "done"
    assert down["harness.device"] == "cpu"
    assert down["harness.device_name"] == "a processor"
    assert down["harness.exclusive"] == "true"
    experiment = store.client.get_experiment(writer.experiment_id)
    assert experiment.tags["mlflow.experiment.primaryMetric.name"] == "best/val/accuracy"
    assert experiment.tags["mlflow.note.content"] == "Why &lt;b&gt;this&lt;/b&gt;."


def test_the_note_describes_the_run_and_escapes_markup(store: Store) -> None:
    evil = "<script>alert(1)</script>`x"
    write(store, make_plan([digits()], name=evil), {0: done()})
    note = runs(store, evil)[0].data.tags["mlflow.note.content"]
    assert "1 trial planned" in note
    assert "Selected on `val/accuracy` (higher is better, target 0.7)" in note
    assert "python -m harness.compare" in note
    assert "<" not in note


def test_the_experiment_file_is_kept_with_the_parent(store: Store, workspace: Path) -> None:
    path = workspace / "experiments" / "e.yaml"
    path.write_text("name: test  # ü\n", encoding="utf-8")
    writer = write(store, make_plan([digits()], path=path), {0: done()})
    kept = store.client.download_artifacts(writer.run_id, "experiment.yaml")
    assert Path(kept).read_text(encoding="utf-8") == "name: test  # ü\n"


def test_the_data_set_is_the_runs_input(store: Store) -> None:
    plan = make_plan([digits()])
    write(store, plan, {0: done()})
    inputs = children(store)["trial 0"].inputs
    assert inputs is not None
    (given,) = inputs.dataset_inputs
    choice = plan.trials[0].trial.dataset
    assert given.dataset.name == "digits"
    whole = choice.component.fingerprint(choice.options, Path())
    assert whole.startswith(given.dataset.digest)
    assert len(given.dataset.digest) == 32


def test_a_diverged_trial_keeps_what_it_measured_and_nothing_else(store: Store) -> None:
    records = [*done()[:3], Ended(Outcome.DIVERGED, {}, "the loss was not finite in epoch 2")]
    write(store, make_plan([digits()]), {0: records})
    run = children(store)["trial 0"]
    assert run.info.status == "FINISHED"
    assert run.data.tags["harness.outcome"] == "diverged"
    assert run.data.tags["harness.diverged_at"] == "2"
    assert run.data.tags["harness.reason"] == "the loss was not finite in epoch 2"
    assert run.data.metrics["val/accuracy"] == 0.8
    assert not [name for name in run.data.metrics if name.startswith("final/")]
    assert all(value < 1e300 for value in run.data.metrics.values())


def test_a_trial_that_diverges_untrained(store: Store) -> None:
    records: list[Record] = [
        Started({}),
        Ended(Outcome.DIVERGED, {}, "the val loss was not finite"),
    ]
    write(store, make_plan([digits()]), {0: records})
    run = children(store)["trial 0"]
    assert run.data.metrics == {}
    assert run.data.tags["harness.diverged_at"] == "0"


def test_no_value_that_is_not_finite_is_stored(store: Store) -> None:
    odd = Measured(1, {"val/loss": float("inf"), "train/loss": float("nan"), "lr": 0.1}, 10)
    write(store, make_plan([digits()]), {0: [odd, done()[-1]]})
    metrics = children(store)["trial 0"].data.metrics
    assert metrics == {"lr": 0.1, "final/test/accuracy": 0.75}


def test_a_failed_trial_has_its_traceback_and_the_sweep_goes_on(store: Store) -> None:
    plan = make_plan([digits(), digits(seed=1)])
    write(store, plan, {0: [failed()], 1: done()})
    bad, good = children(store)["trial 0"], children(store)["trial 1"]
    assert (bad.info.status, good.info.status) == ("FAILED", "FINISHED")
    assert bad.data.tags["harness.reason"] == "ValueError: no"
    text = Path(store.client.download_artifacts(bad.info.run_id, "traceback.txt")).read_text()
    assert text.endswith("ValueError: no")
    assert runs(store)[0].info.status == "FAILED"
    assert runs(store)[0].data.metrics["trials/failed"] == 1
    assert runs(store)[0].data.metrics["trials/done"] == 1


def test_an_interruption_marks_open_runs_as_killed(store: Store) -> None:
    plan = make_plan([digits(), digits(seed=1)])

    def interrupted_sweep() -> None:
        with SweepWriter(store, plan, GOAL) as writer:
            writer.record(plan.trials[0], measured(0, 0.1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted_sweep()
    parent, child = runs(store)
    assert (parent.info.status, child.info.status) == ("KILLED", "KILLED")
    assert child.data.tags["harness.outcome"] == "interrupted"
    assert child.data.metrics["val/accuracy"] == 0.1
    assert "best/val/accuracy" not in child.data.metrics  # half a trial has no result
    assert child.info.end_time is not None


def test_an_error_elsewhere_marks_the_sweep_as_failed(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), SweepWriter(store, make_plan([digits()]), GOAL):
        raise ZeroDivisionError
    assert runs(store)[0].info.status == "FAILED"


def test_records_after_the_end_are_refused(store: Store) -> None:
    plan = make_plan([digits()])
    with SweepWriter(store, plan, GOAL) as writer:
        writer.record(plan.trials[0], failed())
        with pytest.raises(ValueError, match="has ended"):
            writer.record(plan.trials[0], measured(1, 0.5))


def superseded(store: Store) -> Counter[tuple[str, bool]]:
    return Counter(
        (run.data.tags["harness.outcome"], "harness.superseded" in run.data.tags)
        for run in runs(store)
        if run.data.tags["harness.kind"] == "trial"
    )


def test_a_retry_supersedes_what_did_not_finish(store: Store) -> None:
    plan = make_plan([digits()])
    write(store, plan, {0: [failed()]})
    write(store, plan, {0: done()})
    assert superseded(store) == {("failed", True): 1, ("done", False): 1}


def test_a_rerun_supersedes_once_it_has_ended(store: Store) -> None:
    plan = make_plan([digits()])
    write(store, plan, {0: done()})
    write(store, plan, {0: [measured(0, 0.1), Ended(Outcome.INTERRUPTED, {}, "stopped")]})
    assert superseded(store) == {("done", False): 1, ("interrupted", True): 1}
    write(store, plan, {0: done(0.9)})
    assert superseded(store) == {("done", True): 1, ("interrupted", True): 1, ("done", False): 1}
    assert store.latest_runs(store.experiment("test"))["0" * 16].best == 0.9


def test_a_rerun_that_fails_leaves_the_earlier_result(store: Store) -> None:
    plan = make_plan([digits()])
    write(store, plan, {0: done(0.9)})
    write(store, plan, {0: [failed()]})
    assert superseded(store) == {("done", False): 1, ("failed", True): 1}
    assert store.latest_runs(store.experiment("test"))["0" * 16].outcome is Outcome.DONE


def test_long_trials_show_their_curves_while_they_run(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan([digits()])
    monkeypatch.setattr(background, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(background, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(background, "FLUSH_SECONDS_PER_RUN", 0.0)
    with SweepWriter(store, plan, GOAL) as runs, BackgroundWriter(runs, in_step=True) as writer:
        writer.record(plan.trials[0], measured(0, 0.1))
        seen = children(store)["trial 0"]
        writer.record(plan.trials[0], failed())
    assert seen.data.metrics["val/accuracy"] == 0.1
    assert seen.data.params["lr"] == "0.1"
    assert seen.info.status == "RUNNING"


def test_a_short_trial_is_one_batch_for_a_server(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    plain = type(store.client).log_batch

    def counting(client: Any, run_id: str, *arguments: Any, **named: Any) -> Any:
        calls.append(run_id)
        return plain(client, run_id, *arguments, **named)

    monkeypatch.setattr(type(store.client), "log_batch", counting)
    with by_client(monkeypatch):
        write(store, make_plan([digits()]), {0: done()})
    assert Counter(calls)[children(store)["trial 0"].info.run_id] == 1


def test_a_broken_store_raises_store_error(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import TEMPORARILY_UNAVAILABLE

    tries = []

    def locked(*arguments: object, **named: object) -> None:
        tries.append(1)
        raise MlflowException("database is locked", TEMPORARILY_UNAVAILABLE)

    plan = make_plan([digits()])
    monkeypatch.setattr("harness.store.retry.PAUSES", (0.0, 0.0))
    with by_client(monkeypatch):
        writer = SweepWriter(store, plan, GOAL)
        writer.record(plan.trials[0], done()[0])
    monkeypatch.setattr(type(store.client), "log_batch", locked)
    with pytest.raises(StoreError, match="cannot write to a run: database is locked"):
        writer.record(plan.trials[0], failed())
    assert len(tries) == 3


@pytest.mark.parametrize(
    ("metrics", "params", "tags", "calls"),
    [
        (0, 0, 0, []),
        (80, 15, 3, [(80, 15, 3)]),
        (2500, 30, 5, [(970, 30, 0), (1000, 0, 0), (530, 0, 5)]),
        (900, 250, 150, [(900, 100, 0), (0, 100, 0), (0, 50, 100), (0, 0, 50)]),
        (1000, 0, 1, [(1000, 0, 0), (0, 0, 1)]),
    ],
)
def test_batches_fill_what_mlflow_allows_with_the_tags_last(
    metrics: int, params: int, tags: int, calls: list[tuple[int, int, int]]
) -> None:
    values = [list(range(n)) for n in (metrics, params, tags)]
    batches = list(split_into_batches(*values))
    assert [tuple(map(len, batch)) for batch in batches] == calls
    for kind, given in enumerate(values):
        assert [value for batch in batches for value in batch[kind]] == given


def test_a_trial_is_reported_as_stored_once_its_run_is_committed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan([digits(), digits(seed=1)])
    with SweepWriter(store, plan, GOAL) as writer:
        for record in done():
            writer.record(plan.trials[0], record)
        writer.record(plan.trials[1], done()[0])
        with monkeypatch.context() as patched:
            patched.setattr(writer.backend, "commit", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                writer.commit()
        assert list(writer.stored()) == []
        writer.commit()
        assert list(writer.stored()) == [StoredTrial(plan.trials[0], Outcome.DONE)]
        assert list(writer.stored()) == [], "each trial is reported once"
    assert list(writer.stored()) == [StoredTrial(plan.trials[1], Outcome.INTERRUPTED)]
