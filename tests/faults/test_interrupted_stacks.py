"""Interrupted stacks resume as the same stack, and end as if they had not been interrupted."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.files import load_checksummed
from harness.core.records import Ended, Measured, Outcome
from harness.execution import run_task as stacks
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.devices import DeviceSlots
from harness.execution.executors.base import TOLD_TO_STOP, Event, request_stop
from harness.execution.executors.process import ProcessExecutor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import stacks_of
from harness.experiment.plan import PlannedTrial
from tests.faults.stack_support import (
    grid,
    interrupt,
    plan_of,
    records,
    resumed_task,
    starts,
    task_of,
    uninterrupted_records,
)

PATIENCE = 120.0
"""Seconds a busy machine may take for anything here."""
MODELS = {
    "dropout": {},
    "batch norm": {"model": {"name": "bn_cnn", "first": 2, "second": 2}, "epochs": 2},
}


@pytest.fixture
def checkpoints(tmp_path: Path) -> ExperimentCheckpoints:
    return ExperimentCheckpoints(tmp_path / "checkpoints", every=0)


@pytest.fixture
def trials() -> list[PlannedTrial]:
    """Eight trials; the second diverges in its first epoch."""
    first, second, *others = grid()
    return plan_of([first, replace(second, lr=1e30), *others])


@pytest.fixture(scope="module")
def uninterrupted(data_root: Path) -> dict[str, list[Any]]:
    first, second, *others = grid()
    return uninterrupted_records(plan_of([first, replace(second, lr=1e30), *others]), data_root)


@pytest.mark.parametrize("place", [(0, 1), (0, 11), (1, 0), (1, 7), (2, 10), (3, 0)], ids=str)
def test_a_stack_interrupted_anywhere_equals_an_uninterrupted_one(
    place: tuple[int, int],
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All records are yielded again, also those of the trial that has diverged."""
    interrupt(task_of(trials, data_root, checkpoints), Position(*place), monkeypatch)
    events = list(stacks.events(resumed_task(trials, data_root, checkpoints)))
    assert records(events) == uninterrupted
    for start in starts(events):
        assert start.metadata["fused"] == len(trials)
        assert start.metadata["resumed"] == 1
        assert start.metadata["resumed_after"] == str(Position(*place))


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_a_stack_interrupted_repeatedly_equals_an_uninterrupted_one(
    fields: dict[str, Any],
    checkpoints: ExperimentCheckpoints,
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials = plan_of(grid(**fields))
    interrupt(task_of(trials, data_root, checkpoints), Position(0, 3), monkeypatch)
    for place in ((0, 9), (1, 1), (1, 5)):
        interrupt(resumed_task(trials, data_root, checkpoints), Position(*place), monkeypatch)
    events = list(stacks.events(resumed_task(trials, data_root, checkpoints)))
    assert records(events) == uninterrupted_records(trials, data_root)
    assert {start.metadata["resumed"] for start in starts(events)} == {4}


@pytest.mark.parametrize("left", [[0, 2, 3], [7]], ids=["three", "one"])
def test_trials_that_are_no_longer_wanted_leave_the_others_unchanged(
    left: list[int],
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another harness has run them, their results are stored, or the plan lacks them now."""
    interrupt(task_of(trials, data_root, checkpoints), Position(1, 4), monkeypatch)
    wanted = [trials[i] for i in left]
    found = records(stacks.events(resumed_task(wanted, data_root, checkpoints)))
    assert found == {one.trial_id: uninterrupted[one.trial_id] for one in wanted}


def test_an_interrupted_stack_is_found_whatever_fuse_says_now(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(task_of(trials[:5], data_root, checkpoints), Position(1, 4), monkeypatch)
    for one in trials[:2]:
        checkpoints.finish(one, done=False)
    for fuse in (2, 256, "auto"):
        found, lines = stacks_of(trials[2:], fuse, 1, checkpoints)
        assert [one.trial_id for one in found.interrupted[0].trials] == [
            one.trial_id for one in trials[2:5]
        ]
        assert not {one.trial_id for group in found.new for one in group} & {
            one.trial_id for one in trials[2:5]
        }
        assert lines[0] == "resuming 1 interrupted stack of 3 trials"
    found, lines = stacks_of(trials[2:], "off", 1, checkpoints)
    assert not found.interrupted
    assert lines == ["Restarting 3 trials: their checkpoints need --fuse."]
    assert not stacks_of(trials[2:], 8, 1, replace(checkpoints, fresh=True))[0].interrupted


def test_a_stack_resumes_in_whatever_order_its_trials_are_submitted(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a search may submit them."""
    interrupt(task_of(trials, data_root, checkpoints), Position(1, 4), monkeypatch)
    same = list(stacks.events(task_of(trials[::-1], data_root, checkpoints)))
    assert records(same) == uninterrupted
    assert {start.metadata["resumed"] for start in starts(same)} == {1}
    others = list(stacks.events(task_of(trials[:2], data_root, checkpoints)))
    assert not any("resumed" in start.metadata for start in starts(others))


def test_a_stack_starts_again_if_its_cancelled_trial_is_wanted_again(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it measured until then is no result. Without it, the others resume."""
    gone = trials[3]
    with monkeypatch.context() as patch:
        stacked = stacks._run_stack
        patch.setattr(stacks, "_run_stack", lambda task, _: stacked(task, {gone.trial_id}))
        interrupt(task_of(trials, data_root, checkpoints), Position(1, 4), monkeypatch)
    others = [one for one in trials if one is not gone]
    alone = list(stacks.events(resumed_task(others, data_root, checkpoints)))
    assert {start.metadata["resumed"] for start in starts(alone)} == {1}
    again = list(stacks.events(resumed_task(trials, data_root, checkpoints)))
    assert not any("resumed" in start.metadata for start in starts(again))
    assert "of other trials" in starts(again)[0].metadata["restarted"]
    assert len(records(again)[gone.trial_id]) == len(records(again)[trials[4].trial_id])


def test_a_stacks_folder_is_deleted_with_its_last_waiting_trial(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(task_of(trials[:3], data_root, checkpoints), Position(1, 4), monkeypatch)
    checkpoints.finish(trials[0], done=True)
    interrupt(resumed_task(trials, data_root, checkpoints), Position(1, 6), monkeypatch)
    assert [one.trials for one in checkpoints.interrupted_stacks(trials)] == [tuple(trials[1:3])]
    checkpoints.delete(trials[1])
    assert [len(one.trials) for one in checkpoints.interrupted_stacks(trials)] == [1]
    checkpoints.release_finished({trials[2].trial_id, "of another"})
    assert not checkpoints.folder.exists()


def test_a_rerun_does_not_resume_a_stack(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--rerun."""
    interrupt(task_of(trials[:3], data_root, checkpoints), Position(1, 4), monkeypatch)
    fresh = replace(checkpoints, fresh=True)
    task = task_of(trials[:3], data_root, fresh)
    assert not checkpoints.interrupted_stacks(trials)
    assert not any("resumed" in start.metadata for start in starts(stacks.events(task)))


def test_a_resumed_stack_is_neither_measured_nor_limited_by_memory(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(task_of(trials, data_root, checkpoints), Position(0, 4), monkeypatch)
    task = replace(
        resumed_task(trials, data_root, checkpoints), speedup_file=tmp_path / "stacks.json"
    )
    monkeypatch.setattr(stacks, "_build_stack", None)
    assert records(stacks.events(task)) == uninterrupted


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


@pytest.mark.parametrize("spoil", [flipped, lambda path: path.write_bytes(b"")])
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_used(
    spoil: Callable[[Path], None],
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(task_of(trials, data_root, checkpoints), Position(1, 4), monkeypatch)
    task = resumed_task(trials, data_root, checkpoints)
    spoil(files(checkpoints)[-1])
    events = list(stacks.events(task))
    assert records(events) == uninterrupted
    assert {start.metadata["resumed_after"] for start in starts(events)} == {
        "1 epochs and 3 batches"
    }


def test_where_all_are_damaged_the_stack_starts_again_and_says_so(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    interrupt(task_of(trials, data_root, checkpoints), Position(1, 4), monkeypatch)
    for path in files(checkpoints):
        flipped(path)
    events = list(stacks.events(resumed_task(trials, data_root, checkpoints)))
    assert records(events) == uninterrupted
    for start in starts(events):
        assert "none of its checkpoints could be used" in start.metadata["restarted"]
        assert "resumed" not in start.metadata


def files(checkpoints: ExperimentCheckpoints) -> list[Path]:
    return sorted(checkpoints.folder.glob("stacks/*/*.pt"))


def test_half_a_stack_does_not_resume_from_the_whole_stacks_checkpoint(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stack resumes in its first epoch and memory runs out: its halves start again, and nobody
    resumes the whole stack later."""
    interrupt(task_of(trials, data_root, checkpoints), Position(0, 4), monkeypatch)
    task = resumed_task(trials, data_root, checkpoints)
    stacked = stacks._run_stack

    def scarce(part: Any, cancelled: Any) -> Iterator[Event]:
        for event in stacked(part, cancelled):
            if len(part.trials) > 4 and isinstance(event.record, Measured):
                raise MemoryError
            yield event

    monkeypatch.setattr(stacks, "_run_stack", scarce)
    events = list(stacks.events(task))
    assert {start.metadata["fused"] for start in starts(events)} == {4}
    assert not any("resumed" in start.metadata for start in starts(events))
    waiting = {path.parent.name for path in checkpoints.folder.glob("stacks/*/*.member")}
    assert len(waiting) == 2


def test_a_stack_whose_checkpoint_cannot_be_written_fails_whole(
    tmp_path: Path, trials: list[PlannedTrial], data_root: Path
) -> None:
    """A file lies where the folder should be, as on a disk that refuses to make one. It happens in
    the first epoch."""
    (tmp_path / "checkpoints").write_text("")
    checkpoints = ExperimentCheckpoints(tmp_path / "checkpoints", every=0)
    ends = [event.record for event in stacks.events(task_of(trials, data_root, checkpoints))]
    assert len(ends) == len(trials)
    for end in ends:
        assert isinstance(end, Ended)
        assert end.outcome is Outcome.FAILED
        assert "no checkpoint could be written" in end.reason
        assert not end.traceback


def test_a_stack_asked_to_stop_writes_a_checkpoint_and_says_so_once(
    tmp_path: Path,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
) -> None:
    """It does so after the current batch. No checkpoint was due for a long time."""
    checkpoints = ExperimentCheckpoints(tmp_path, every=1e9)
    told: list[Event] = []
    for event in stacks.events(task_of(trials, data_root, checkpoints)):
        told.append(event)
        if isinstance(event.record, Measured) and event.record.epoch == 1:
            assert request_stop()
    assert told[-1].record is TOLD_TO_STOP
    assert sum(isinstance(event.record, Measured) for event in told) < 2 * len(trials)
    events = list(stacks.events(resumed_task(trials, data_root, checkpoints)))
    assert records(events) == uninterrupted
    assert {start.metadata["resumed_after"] for start in starts(events)} == {"1 epochs"}


def test_a_short_stack_leaves_nothing(
    tmp_path: Path, trials: list[PlannedTrial], data_root: Path
) -> None:
    checkpoints = ExperimentCheckpoints(tmp_path)
    list(stacks.events(task_of(trials, data_root, checkpoints)))
    assert not list(tmp_path.iterdir())


def test_the_format_of_a_stacks_checkpoint_stays_readable(
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Other versions resume from it: what a name holds may be added to, and not be renamed."""
    interrupt(task_of(trials, data_root, checkpoints), Position(1, 4), monkeypatch)
    last = files(checkpoints)[-1]
    assert last.name == "000001-000000004.pt"
    marks = {path.stem for path in last.parent.glob("*.member")}
    assert marks == {planned.trial_id for planned in trials}
    content = load_checksummed(last)
    assert content.keys() == {"state", "trials", "history", "ended", "facts"}
    assert list(content["trials"]) == [planned.trial_id for planned in trials]
    assert content["facts"].keys() == {"torch", "threads", "device_name", "times"}
    (diverged,) = content["ended"].values()
    assert diverged[0] == "diverged"
    state = content["state"]
    assert state["format"] == 3
    assert {"rows", "living", "network", "updates", "rates", "epoch", "device"} <= state.keys()
    assert state["begun"].keys() == {"before", "outputs", "losses", "targets", "streams"}


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


@pytest.mark.slow
def test_a_worker_killed_in_mid_epoch_costs_its_stack_nothing(
    executor: ProcessExecutor,
    checkpoints: ExperimentCheckpoints,
    trials: list[PlannedTrial],
    uninterrupted: dict[str, list[Any]],
    data_root: Path,
) -> None:
    """It is killed twice, once after a trial has diverged. Each record comes once; starts come
    again, and say that the trials resumed."""
    task = task_of(trials, data_root, checkpoints)
    assert task.checkpoints is not None
    assert task.checkpoints.stack is not None
    folder = CheckpointFolder(task.checkpoints.stack)
    executor.submit(task)
    events: list[Event] = []
    for place in (Position(0, 4), Position(1, 6)):
        deadline = time.monotonic() + PATIENCE
        while (folder.latest_position() or Position(0, 0)) < place:
            assert time.monotonic() < deadline, "it takes too long"
            time.sleep(0.001)
        (worker,) = multiprocessing.active_children()
        worker.kill()
        worker.join()
        while not multiprocessing.active_children():
            event = executor.next(timeout=0.1)
            events += [event] if event else []
    events += drain(executor)
    assert records(events) == uninterrupted
    assert {start.metadata.get("resumed") for start in starts(events)} >= {1, 2}


@pytest.mark.slow
def test_a_worker_asked_to_stop_writes_its_stacks_checkpoint_first(
    executor: ProcessExecutor,
    tmp_path: Path,
    data_root: Path,
) -> None:
    """An interrupted sweep closes its executor."""
    trials = plan_of(grid(epochs=8))
    checkpoints = ExperimentCheckpoints(tmp_path, every=1e9)
    executor.submit(task_of(trials, data_root, checkpoints))
    while not is_epoch(executor.next(), 1):
        pass
    executor.close()
    executor.submit(resumed_task(trials, data_root, checkpoints))
    events = drain(executor)
    assert {start.metadata["resumed"] for start in starts(events)} == {1}
    assert records(events) == uninterrupted_records(trials, data_root)


def is_epoch(event: Event | None, epoch: int) -> bool:
    record = event and event.record
    return isinstance(record, Measured) and record.epoch == epoch
