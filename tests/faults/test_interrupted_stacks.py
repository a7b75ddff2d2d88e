"""Stacks that are cut go on as the group that they were, and end as if they had never been cut."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.records import Ended, Measured, Outcome
from harness.execution import run_stack as stacks
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.executors.base import Event
from harness.execution.executors.process import ProcessExecutor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import stacks_of
from harness.execution.stopping import TOLD_TO_STOP, request_stop
from harness.experiment.plan import PlannedTrial
from tests.faults.stack_support import cut, going_on, grid, plan_of, records, starts, task_of, whole

PATIENCE = 120.0
"""Seconds a busy machine may take for anything here."""
MODELS = {
    "dropout": {},
    "batch norm": {"model": {"name": "bn_cnn", "first": 2, "second": 2}, "epochs": 2},
}


@pytest.fixture
def room(tmp_path: Path) -> ExperimentCheckpoints:
    return ExperimentCheckpoints(tmp_path / "checkpoints", every=0)


@pytest.fixture
def members() -> list[PlannedTrial]:
    """Eight trials; the second diverges in its first epoch."""
    first, second, *others = grid()
    return plan_of([first, replace(second, lr=1e30), *others])


@pytest.fixture(scope="module")
def never_cut(data_root: Path) -> dict[str, list[Any]]:
    first, second, *others = grid()
    return whole(plan_of([first, replace(second, lr=1e30), *others]), data_root)


@pytest.mark.parametrize("place", [(0, 1), (0, 11), (1, 0), (1, 7), (2, 10), (3, 0)], ids=str)
def test_a_stack_cut_anywhere_is_as_if_never_cut(
    place: tuple[int, int],
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that were told of before, the one that diverged too, are told of again."""
    cut(task_of(members, data_root, room), Position(*place), monkeypatch)
    events = list(stacks.events(going_on(members, data_root, room)))
    assert records(events) == never_cut
    for start in starts(events):
        assert start.metadata["fused"] == len(members)
        assert start.metadata["resumed"] == 1
        assert start.metadata["resumed_after"] == str(Position(*place))


@pytest.mark.parametrize("fields", MODELS.values(), ids=MODELS)
def test_a_stack_cut_again_and_again_is_as_if_never_cut(
    fields: dict[str, Any],
    room: ExperimentCheckpoints,
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    members = plan_of(grid(**fields))
    cut(task_of(members, data_root, room), Position(0, 3), monkeypatch)
    for place in ((0, 9), (1, 1), (1, 5)):
        cut(going_on(members, data_root, room), Position(*place), monkeypatch)
    events = list(stacks.events(going_on(members, data_root, room)))
    assert records(events) == whole(members, data_root)
    assert {start.metadata["resumed"] for start in starts(events)} == {4}


@pytest.mark.parametrize("left", [[0, 2, 3], [7]], ids=["three", "one"])
def test_trials_that_are_no_longer_wanted_leave_and_the_others_go_on_unchanged(
    left: list[int],
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Run by another harness meanwhile, recorded before the cut, or no longer in the plan."""
    cut(task_of(members, data_root, room), Position(1, 4), monkeypatch)
    wanted = [members[i] for i in left]
    found = records(stacks.events(going_on(wanted, data_root, room)))
    assert found == {one.trial_id: never_cut[one.trial_id] for one in wanted}


def test_a_group_is_found_again_whatever_the_grouping_would_be_now(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(task_of(members[:5], data_root, room), Position(1, 4), monkeypatch)
    for one in members[:2]:
        room.finish(one, done=False)
    for fuse in (2, 256, "auto"):
        found, lines = stacks_of(members[2:], fuse, 1, room)
        assert [one.trial_id for one in found.interrupted[0].trials] == [
            one.trial_id for one in members[2:5]
        ]
        assert not {one.trial_id for group in found.new for one in group} & {
            one.trial_id for one in members[2:5]
        }
        assert lines[0] == "resuming 1 interrupted stack of 3 trials"
    found, lines = stacks_of(members[2:], "off", 1, room)
    assert not found.interrupted
    assert lines == ["Restarting 3 trials: their checkpoints need --fuse."]
    assert not stacks_of(members[2:], 8, 1, replace(room, fresh=True))[0].interrupted


def test_the_same_trials_go_on_in_whatever_order_they_are_asked_together(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A search's stacks."""
    cut(task_of(members, data_root, room), Position(1, 4), monkeypatch)
    same = list(stacks.events(task_of(members[::-1], data_root, room)))
    assert records(same) == never_cut
    assert {start.metadata["resumed"] for start in starts(same)} == {1}
    others = list(stacks.events(task_of(members[:2], data_root, room)))
    assert not any("resumed" in start.metadata for start in starts(others))


def test_a_stack_with_a_trial_that_was_cancelled_begins_anew_where_it_is_asked_for_again(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What it measured until then is no result; the others alone go on."""
    gone = members[3]
    with monkeypatch.context() as patch:
        stacked = stacks._run_stack
        patch.setattr(stacks, "_run_stack", lambda task, _: stacked(task, {gone.trial_id}))
        cut(task_of(members, data_root, room), Position(1, 4), monkeypatch)
    others = [one for one in members if one is not gone]
    alone = list(stacks.events(going_on(others, data_root, room)))
    assert {start.metadata["resumed"] for start in starts(alone)} == {1}
    again = list(stacks.events(going_on(members, data_root, room)))
    assert not any("resumed" in start.metadata for start in starts(again))
    assert "of other trials" in starts(again)[0].metadata["restarted"]
    assert len(records(again)[gone.trial_id]) == len(records(again)[members[4].trial_id])


def test_the_folder_goes_with_the_last_trial_that_waits_for_it(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(task_of(members[:3], data_root, room), Position(1, 4), monkeypatch)
    room.finish(members[0], done=True)
    cut(going_on(members, data_root, room), Position(1, 6), monkeypatch)
    assert [one.trials for one in room.interrupted_stacks(members)] == [tuple(members[1:3])]
    room.delete(members[1])
    assert [len(one.trials) for one in room.interrupted_stacks(members)] == [1]
    room.release_finished({members[2].trial_id, "of another"})
    assert not room.folder.exists()


def test_a_stack_that_begins_anew_is_not_found_again(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """--rerun."""
    cut(task_of(members[:3], data_root, room), Position(1, 4), monkeypatch)
    fresh = replace(room, fresh=True)
    task = task_of(members[:3], data_root, fresh)
    assert not room.interrupted_stacks(members)
    assert not any("resumed" in start.metadata for start in starts(stacks.events(task)))


def test_a_stack_that_goes_on_is_not_measured_again_nor_held_to_memory(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(task_of(members, data_root, room), Position(0, 4), monkeypatch)
    task = replace(going_on(members, data_root, room), speedup_file=tmp_path / "stacks.json")
    monkeypatch.setattr(stacks, "_build_stack", None)
    assert records(stacks.events(task)) == never_cut


def flipped(path: Path) -> None:
    held = bytearray(path.read_bytes())
    held[len(held) // 2] ^= 1
    path.write_bytes(held)


@pytest.mark.parametrize("spoil", [flipped, lambda path: path.write_bytes(b"")])
def test_where_the_last_checkpoint_is_damaged_the_one_before_is_used(
    spoil: Callable[[Path], None],
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(task_of(members, data_root, room), Position(1, 4), monkeypatch)
    task = going_on(members, data_root, room)
    spoil(files(room)[-1])
    events = list(stacks.events(task))
    assert records(events) == never_cut
    assert {start.metadata["resumed_after"] for start in starts(events)} == {
        "1 epochs and 3 batches"
    }


def test_where_all_are_damaged_the_stack_begins_again_and_says_so(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cut(task_of(members, data_root, room), Position(1, 4), monkeypatch)
    for path in files(room):
        flipped(path)
    events = list(stacks.events(going_on(members, data_root, room)))
    assert records(events) == never_cut
    for start in starts(events):
        assert "none of its checkpoints could be used" in start.metadata["restarted"]
        assert "resumed" not in start.metadata


def files(room: ExperimentCheckpoints) -> list[Path]:
    return sorted(room.folder.glob("stacks/*/*.pt"))


def test_a_part_does_not_go_on_from_the_checkpoint_of_the_whole(
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    data_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stack goes on in its first epoch, and memory is no longer there: its halves begin anew, and
    nobody goes on with the whole again."""
    cut(task_of(members, data_root, room), Position(0, 4), monkeypatch)
    task = going_on(members, data_root, room)
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
    waiting = {path.parent.name for path in room.folder.glob("stacks/*/*.member")}
    assert len(waiting) == 2


def test_a_stack_whose_checkpoint_cannot_be_written_fails_whole(
    tmp_path: Path, members: list[PlannedTrial], data_root: Path
) -> None:
    """A file lies where the folder should, as on a disk that refuses one. In the first epoch."""
    (tmp_path / "checkpoints").write_text("")
    room = ExperimentCheckpoints(tmp_path / "checkpoints", every=0)
    ends = [event.record for event in stacks.events(task_of(members, data_root, room))]
    assert len(ends) == len(members)
    for end in ends:
        assert isinstance(end, Ended)
        assert end.outcome is Outcome.FAILED
        assert "no checkpoint could be written" in end.reason
        assert not end.traceback


def test_a_stack_told_to_stop_keeps_a_checkpoint_and_says_so_once(
    tmp_path: Path, members: list[PlannedTrial], never_cut: dict[str, list[Any]], data_root: Path
) -> None:
    """After the batch in hand; nothing was due for a long time."""
    room = ExperimentCheckpoints(tmp_path, every=1e9)
    told: list[Event] = []
    for event in stacks.events(task_of(members, data_root, room)):
        told.append(event)
        if isinstance(event.record, Measured) and event.record.epoch == 1:
            assert request_stop()
    assert told[-1].record is TOLD_TO_STOP
    assert sum(isinstance(event.record, Measured) for event in told) < 2 * len(members)
    events = list(stacks.events(going_on(members, data_root, room)))
    assert records(events) == never_cut
    assert {start.metadata["resumed_after"] for start in starts(events)} == {"1 epochs"}


def test_a_short_stack_leaves_nothing(
    tmp_path: Path, members: list[PlannedTrial], data_root: Path
) -> None:
    room = ExperimentCheckpoints(tmp_path)
    list(stacks.events(task_of(members, data_root, room)))
    assert not list(tmp_path.iterdir())


@pytest.fixture
def executor() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor.on_cpu(workers=1, threads=1)
    yield made
    made.close()


def drain(executor: ProcessExecutor) -> list[Event]:
    found = []
    while (event := executor.next()) is not None:
        found.append(event)
    return found


def test_a_worker_killed_in_mid_epoch_costs_its_stack_nothing(
    executor: ProcessExecutor,
    room: ExperimentCheckpoints,
    members: list[PlannedTrial],
    never_cut: dict[str, list[Any]],
    data_root: Path,
) -> None:
    """Killed twice, once after one trial has diverged. Each record comes once; starts come again,
    to say that their trials went on."""
    task = task_of(members, data_root, room)
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
    assert records(events) == never_cut
    assert {start.metadata.get("resumed") for start in starts(events)} >= {1, 2}


def test_a_worker_told_to_stop_keeps_its_stacks_checkpoint_first(
    executor: ProcessExecutor,
    tmp_path: Path,
    data_root: Path,
) -> None:
    """Closing the engine, as an interrupted sweep does."""
    members = plan_of(grid(epochs=8))
    room = ExperimentCheckpoints(tmp_path, every=1e9)
    executor.submit(task_of(members, data_root, room))
    while not is_epoch(executor.next(), 1):
        pass
    executor.close()
    executor.submit(going_on(members, data_root, room))
    events = drain(executor)
    assert {start.metadata["resumed"] for start in starts(events)} == {1}
    assert records(events) == whole(members, data_root)


def is_epoch(event: Event | None, epoch: int) -> bool:
    record = event and event.record
    return isinstance(record, Measured) and record.epoch == epoch
