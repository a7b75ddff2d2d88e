"""Trials interrupted by real signals resume, and end as if they had not been interrupted."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness.core.metrics import BEST, MACHINE_DEPENDENT
from harness.core.process import Interrupted, Interrupts
from harness.core.records import Ended, Measured, Outcome, Started
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.devices import DeviceSlots
from harness.execution.executors.base import Event
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import execute
from harness.execution.run_task import run
from harness.experiment.trial import Trial
from harness.store import names
from tests.faults.sweep_support import cut, finish, reached, statuses, sweep, wait_for
from tests.resume_support import comparable, planned, task
from tests.support import make_trial


def has_reached(folder: CheckpointFolder, position: Position) -> bool:
    return (folder.latest_position() or Position(0, 0)) >= position


def has_passed(workspace: Path, position: Position) -> bool:
    return max(reached(workspace), default=position) > position


def small_trial(**fields: object) -> Trial:
    model = {"name": "mlp", "hidden": [16], "dropout": 0.3}
    values = {"batch_size": 32, "epochs": 3, "model": model, "optimizer": "adam", "lr": 0.01}
    return make_trial(**{**values, **fields})


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor([DeviceSlots("cpu", 1)])
    yield executor
    executor.close()


def drain(executor: ProcessExecutor) -> list[Event]:
    found = []
    while (event := executor.next()) is not None:
        found.append(event)
    return found


def uninterrupted_records(trial: Trial, root: Path) -> list[Any]:
    return comparable(
        run(task(trial, root, ExperimentCheckpoints(Path("/nonexistent"), every=1e9)))
    )


def test_a_worker_killed_in_mid_epoch_costs_its_trial_nothing(
    executor: ProcessExecutor, tmp_path: Path, data_root: Path
) -> None:
    """It is killed twice. Each record comes once; a start comes again, and says that the trial
    resumed."""
    trial, checkpoints = small_trial(), ExperimentCheckpoints(tmp_path, every=0)
    folder = CheckpointFolder(checkpoints.trial_folder(planned(trial)))
    executor.submit(task(trial, data_root, checkpoints))
    events = []
    for place in (Position(0, 10), Position(1, 10)):
        wait_for(partial(has_reached, folder, place))
        (worker,) = multiprocessing.active_children()
        worker.kill()
        worker.join()
        while not multiprocessing.active_children():
            event = executor.next(timeout=0.1)
            events += [event] if event else []
    events += drain(executor)
    records = [event.record for event in events]
    starts = [record for record in records if isinstance(record, Started)]
    assert [start.metadata.get("resumed") for start in starts] == [None, 1, 2]
    once = [starts[0], *(record for record in records if not isinstance(record, Started))]
    assert comparable(once) == uninterrupted_records(trial, data_root)


def test_a_worker_that_dies_before_its_first_checkpoint_fails_its_trial(
    executor: ProcessExecutor, tmp_path: Path, data_root: Path
) -> None:
    executor.submit(
        task(small_trial(epochs=10_000), data_root, ExperimentCheckpoints(tmp_path, every=1e9))
    )
    assert executor.next() is not None
    for worker in multiprocessing.active_children():
        worker.kill()
    ended = drain(executor)[-1].record
    assert isinstance(ended, Ended)
    assert ended.outcome is Outcome.FAILED
    assert "signal 9" in ended.reason


def test_a_worker_asked_to_stop_writes_a_checkpoint_first(
    executor: ProcessExecutor, tmp_path: Path, data_root: Path
) -> None:
    """An interrupted sweep closes its executor. No checkpoint was due for a long time."""
    trial, checkpoints = small_trial(epochs=6), ExperimentCheckpoints(tmp_path, every=1e9)
    folder = CheckpointFolder(checkpoints.trial_folder(planned(trial)))
    executor.submit(task(trial, data_root, checkpoints))
    while not isinstance(event := executor.next(), Event) or not _is_epoch(event, 1):
        pass
    executor.close()
    reached = folder.latest_position()
    assert reached is not None
    assert reached >= Position(1, 0)
    executor.submit(task(trial, data_root, checkpoints))
    records = [event.record for event in drain(executor)]
    assert records[0].metadata["resumed"] == 1  # type: ignore[union-attr]
    assert comparable(records) == uninterrupted_records(trial, data_root)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_trial_in_this_process_writes_a_checkpoint_before_it_stops(
    number: signal.Signals, tmp_path: Path, data_root: Path
) -> None:
    """The signal comes inside an epoch. No checkpoint was due for a long time."""
    one = planned(small_trial(epochs=10_000))
    checkpoints = ExperimentCheckpoints(tmp_path, every=1e9)
    with Interrupts() as interrupts:
        events = execute(
            [one], InlineExecutor(), interrupts, data_root, False, checkpoints=checkpoints
        )
        with pytest.raises(Interrupted):  # noqa: PT012
            for event in events:
                _, record = event or (None, None)
                if isinstance(record, Measured) and record.epoch == 1:
                    threading.Timer(0.02, os.kill, (os.getpid(), number)).start()
    reached = CheckpointFolder(checkpoints.trial_folder(one)).latest_position()
    assert reached is not None
    assert reached >= Position(1, 0)


def _is_epoch(event: Event, epoch: int) -> bool:
    return isinstance(event.record, Measured) and event.record.epoch == epoch


FILE = """\
name: cut
trial:
  dataset: digits
  model: {name: mlp, hidden: [16], dropout: 0.3}
  optimizer: adam
  lr: 0.01
  batch_size: 32
  epochs: 12
  log_every: 10
grid: {seed: [0, 1]}
artifacts: all
"""


def stored(workspace: Path) -> dict[str, Any]:
    """By seed, the values of each trial's run, one for each (metric, step), and its final
    weights."""
    from harness.store.read.run_details import fetch_weights
    from harness.store.store import open_store

    store = open_store(workspace)
    found = {}
    for run_ in store.client.search_runs([store.experiment("cut")], max_results=1000):
        tags = run_.data.tags
        if tags[names.TAG_KIND] != names.TRIAL or names.TAG_SUPERSEDED in tags:
            continue
        assert run_.info.status == "FINISHED"
        values: dict[Any, Any] = {}
        for name in run_.data.metrics:
            if name.removeprefix(BEST).startswith(MACHINE_DEPENDENT):
                continue
            for point in store.client.get_metric_history(run_.info.run_id, name):
                assert (name, point.step) not in values, "one value for each metric and step"
                values[name, point.step] = point.value
        weights = fetch_weights(store, run_.info.run_id)
        assert weights
        values["weights"] = {name: tensor.tolist() for name, tensor in weights.items()}
        resumed = {key: value for key, value in tags.items() if "resumed" in key}
        found[run_.data.params["seed"]] = (values, resumed)
    return found


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What an uninterrupted sweep stores."""
    place = tmp_path_factory.mktemp("whole")
    (place / "mlruns").mkdir()
    (place / "cut.yaml").write_text(FILE)
    with contextlib.chdir(place):
        finish("--executor", "inline")
    return stored(place)


def finished(workspace: Path, uninterrupted: dict[str, Any], *arguments: str) -> dict[str, Any]:
    """Finish the sweep, which then equals an uninterrupted one. Returns its tags by seed."""
    finish(*arguments)
    after = stored(workspace)
    assert after.keys() == uninterrupted.keys() == {"0", "1"}
    for seed, (values, _) in uninterrupted.items():
        assert len(values) > 150
        assert after[seed][0] == values
    return {seed: tags for seed, (_, tags) in after.items()}


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "process"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_sweep_interrupted_inside_an_epoch_equals_an_uninterrupted_one(
    number: signal.Signals,
    executor: str,
    workspace: Path,
    uninterrupted: dict[str, Any],
) -> None:
    (workspace / "cut.yaml").write_text(FILE)
    arguments = ("--executor", executor)
    places = cut(workspace, number, *arguments)
    assert places
    if number != signal.SIGKILL:
        assert "RUNNING" not in statuses(workspace)
        assert "KILLED" in statuses(workspace)
    tags = finished(workspace, uninterrupted, *arguments)
    resumed = [tag[names.TAG_RESUMED_AFTER] for tag in tags.values() if tag]
    assert sorted(resumed) == sorted(map(str, places))
    assert "RUNNING" not in statuses(workspace)
    assert not list(workspace.glob("mlruns/checkpoints/*/*/*/*.pt"))


@pytest.mark.slow
def test_a_sweep_killed_repeatedly_ends_with_the_same_results(
    workspace: Path, uninterrupted: dict[str, Any]
) -> None:
    (workspace / "cut.yaml").write_text(FILE)
    for _ in range(3):
        before = max(reached(workspace), default=Position(0, 0))
        process = sweep("--checkpoint-every", "0", "--executor", "inline")
        further = Position(before.epoch, before.batch + 10)
        wait_for(partial(has_passed, workspace, further))
        process.kill()
        process.communicate()
    tags = finished(workspace, uninterrupted, "--executor", "inline")
    assert "3" in [tag.get(names.TAG_RESUMED) for tag in tags.values()]
