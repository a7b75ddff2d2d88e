"""Tasks of several trials: stacked, or one by one if they cannot be stacked."""

from __future__ import annotations

import gc
import json
import os
import signal
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from harness.core.records import Ended, Measured, Outcome, Started
from harness.execution import checkpointer
from harness.execution import run_task as stacks
from harness.execution.devices import DeviceSlots
from harness.execution.executors.base import Event, Executor, TrainingTask
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.training import resources
from harness.training.stacked import speedup
from harness.training.stacked.loop import train_stack
from harness.training.stacked.stack import Stack
from tests.execution.support import drain
from tests.support import make_trial

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "inline": InlineExecutor,
    "process": lambda: ProcessExecutor([DeviceSlots("cpu", 1)]),
}


@pytest.fixture
def unstackable(tmp_path: Path) -> dict[str, Any]:
    """Fields of a trial whose model drops whole blocks at random, on a few images."""
    for name, shade in (("dark", 40), ("light", 200)):
        (tmp_path / name).mkdir()
        for i in range(12):
            Image.new("L", (4, 4), shade + i).save(tmp_path / name / f"{i}.png")
    dataset = {"name": "image_folder", "path": str(tmp_path), "channels": 1}
    model = {"name": "torchvision", "arch": "efficientnet_b0", "resize": 8}
    return {"dataset": dataset, "model": model, "batch_size": 32, "epochs": 1}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = EXECUTORS[request.param]()
    yield made
    made.close()


def stack_of(
    keys: str, root: Path, speedup_file: Path | None = None, **fields: Any
) -> TrainingTask:
    trials = {key: make_trial(**{"epochs": 2, **fields, "seed": i}) for i, key in enumerate(keys)}
    return TrainingTask(trials, root, test_outputs=False, speedup_file=speedup_file)


def of(events: list[Event], kind: type[Any]) -> dict[str, Any]:
    found = [(event.key, event.record) for event in events if isinstance(event.record, kind)]
    return dict(found)


def ends(events: list[Event]) -> dict[str, Ended]:
    found = of(events, Ended)
    assert len(found) == sum(isinstance(event.record, Ended) for event in events)
    return found


def test_a_stack_ends_each_of_its_trials_once(executor: Executor, data_root: Path) -> None:
    executor.submit(stack_of("abc", data_root))
    events = drain(executor)
    assert {key: end.outcome for key, end in ends(events).items()} == dict.fromkeys("abc", "done")
    started = of(events, Started)
    assert {key: one.metadata["fused"] for key, one in started.items()} == dict.fromkeys("abc", 3)
    assert not any(one.metadata["exclusive"] for one in started.values())
    assert executor.has_slot("cpu")


def test_a_stack_and_a_trial_share_an_executor(executor: Executor, data_root: Path) -> None:
    events = drain(executor, stack_of("abc", data_root), stack_of("d", data_root))
    assert set(ends(events)) == set("abcd")
    assert "fused" not in of(events, Started)["d"].metadata


def test_a_trial_that_diverges_ends_alone(executor: Executor, data_root: Path) -> None:
    task = stack_of("ab", data_root)
    bad = make_trial(epochs=2, lr=1e30, seed=9)
    events = drain(executor, TrainingTask({**task.trials, "x": bad}, data_root, False))
    outcomes = {key: end.outcome for key, end in ends(events).items()}
    assert outcomes == {"a": Outcome.DONE, "b": Outcome.DONE, "x": Outcome.DIVERGED}


@pytest.mark.slow
def test_a_cancelled_trial_leaves_its_stack_alone(executor: Executor, data_root: Path) -> None:
    executor.submit(stack_of("abc", data_root, epochs=200))
    events = [executor.next(), executor.next()]
    executor.cancel("b")
    found = [*(event for event in events if event), *drain(executor)]
    outcomes = {key: end.outcome for key, end in ends(found).items()}
    assert outcomes == {"a": Outcome.DONE, "b": Outcome.INTERRUPTED, "c": Outcome.DONE}
    epochs = {
        key: sum(e.key == key and isinstance(e.record, Measured) for e in found) for key in "abc"
    }
    assert epochs["a"] == epochs["c"] == 201
    assert epochs["b"] < 201
    executor.submit(stack_of("d", data_root))
    assert ends(drain(executor))["d"].outcome is Outcome.DONE


def test_a_stack_whose_trials_are_all_cancelled_frees_its_slot(
    executor: Executor, data_root: Path
) -> None:
    executor.submit(stack_of("abc", data_root, epochs=10_000))
    assert executor.next() is not None
    for key in "cab":
        executor.cancel(key)
    outcomes = {key: end.outcome for key, end in ends(drain(executor)).items()}
    assert outcomes == dict.fromkeys("abc", Outcome.INTERRUPTED)
    assert executor.has_slot("cpu")


@pytest.mark.slow
def test_a_trial_is_cancelled_before_its_stack_begins(executor: Executor, data_root: Path) -> None:
    drain(executor, stack_of("z", data_root))
    executor.submit(stack_of("abc", data_root, epochs=200))
    executor.cancel("a")
    outcomes = {key: end.outcome for key, end in ends(drain(executor)).items()}
    assert outcomes == {"a": Outcome.INTERRUPTED, "b": Outcome.DONE, "c": Outcome.DONE}


def test_trials_that_cannot_be_stacked_are_cancelled_one_by_one(
    data_root: Path, unstackable: dict[str, Any]
) -> None:
    cancelled = {"b"}
    task = stack_of("abc", data_root, **unstackable)
    found = {key: end.outcome for key, end in ends(list(stacks.events(task, cancelled))).items()}
    assert found == {"a": Outcome.DONE, "b": Outcome.INTERRUPTED, "c": Outcome.DONE}


def test_a_killed_worker_fails_the_trials_that_had_not_ended(data_root: Path) -> None:
    executor = ProcessExecutor([DeviceSlots("cpu", 1)])
    executor.submit(stack_of("abc", data_root, epochs=10_000))
    assert executor.next() is not None
    (running,) = executor._running.values()
    assert running.worker.process.pid is not None
    os.kill(running.worker.process.pid, signal.SIGKILL)
    found = ends(drain(executor))
    executor.close()
    assert {key: end.outcome for key, end in found.items()} == dict.fromkeys("abc", Outcome.FAILED)
    assert "signal 9" in found["c"].reason


def test_trials_that_cannot_be_stacked_train_one_by_one(
    executor: Executor, data_root: Path, unstackable: dict[str, Any]
) -> None:
    executor.submit(stack_of("ab", data_root, **unstackable))
    events = drain(executor)
    assert {end.outcome for end in ends(events).values()} == {Outcome.DONE}
    (reason,) = {one.metadata["not_fused"] for one in of(events, Started).values()}
    assert reason.startswith("it draws random numbers by itself")


@pytest.mark.parametrize(
    ("factor", "description"),
    [
        (0.5, "mlp on digits: one by one, as a stack of 2 would train 0.5 times as fast"),
        (2.0, "mlp on digits: a stack of 2 trains 2 times as fast"),
        (None, "mlp on digits: a stack of 2, which takes too little time to be measured first"),
    ],
)
def test_a_slower_stack_trains_one_by_one(
    data_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factor: float | None,
    description: str,
) -> None:
    monkeypatch.setattr(speedup, "measure_speedup", lambda *_: factor)
    task = stack_of("ab", data_root, speedup_file=tmp_path / "stacks.json")
    metadata = of(list(stacks.events(task)), Started)["b"].metadata
    if factor == 0.5:
        assert metadata["not_fused"] == f"{description} (measured now)"
        return
    assert (metadata["fused"], metadata.get("fused_gain")) == (2, factor)
    assert metadata["fusing"].removesuffix(" (measured now)") == description


def test_a_slower_stack_is_freed_before_its_trials_train(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = []
    build = stacks._build_within_memory

    def remember(*arguments: Any) -> Stack:
        stack = build(*arguments)
        built.append(weakref.ref(stack))
        return stack

    monkeypatch.setattr(stacks, "_build_within_memory", remember)
    monkeypatch.setattr(speedup, "measure_speedup", lambda *_: 0.5)
    events = stacks.events(stack_of("ab", data_root, speedup_file=tmp_path / "stacks.json"))
    assert next(events).key == "a"
    gc.collect()
    assert [reference() for reference in built] == [None]


def test_both_ways_are_measured_once_on_a_machine(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speedup, "MIN_STACK_SECONDS", 0.0)
    task = stack_of("abcdefgh", data_root, speedup_file=tmp_path / "stacks.json")
    assert set(ends(list(stacks.events(task)))) == set("abcdefgh")
    ((_, found),) = json.loads((tmp_path / "stacks.json").read_text()).items()
    assert 0 < found["gain"] < float("inf")
    monkeypatch.setattr(speedup, "measure_speedup", None)
    (reason, *_) = {
        one.metadata.get("fusing") or one.metadata["not_fused"]
        for one in of(list(stacks.events(task)), Started).values()
    }
    assert "measured before" in reason


def test_a_damaged_file_is_measured_again(data_root: Path, tmp_path: Path) -> None:
    (tmp_path / "stacks.json").write_text("{")
    task = stack_of("ab", data_root, speedup_file=tmp_path / "stacks.json")
    assert set(ends(list(stacks.events(task)))) == set("ab")


def test_stacks_are_as_large_as_memory_allows(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = stack_of("abcde", data_root)
    each = Stack(tuple(task.trials.items()), data_root, torch.device("cpu")).bytes_per_trial()
    monkeypatch.setattr(stacks, "_max_trials", {})
    monkeypatch.setattr(resources, "memory_limit", lambda _: int(2.5 * each))
    metadata = {key: one.metadata for key, one in of(list(stacks.events(task)), Started).items()}
    assert [metadata[key].get("fused") for key in "abcde"] == [None, 2, 2, 2, 2]


def test_a_stack_without_memory_is_halved(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[..., Iterator[Any]] = train_stack
    sizes = []

    def scarce(stack: Stack, *rest: Any) -> Iterator[Any]:
        size = len(stack.trials)
        sizes.append(size)
        for number, keyed in enumerate(whole(stack, *rest)):
            if size > 2 and number > size:
                raise MemoryError
            yield keyed

    monkeypatch.setattr(checkpointer, "train_stack", scarce)
    events = list(stacks.events(stack_of("abcde", data_root)))
    assert sizes == [5, 2, 3, 2]
    assert {end.outcome for end in ends(events).values()} == {Outcome.DONE}
    assert [e.key for e in events if isinstance(e.record, Measured) and e.record.epoch == 0] == [
        *"abcde"
    ]
    metadata = {key: one.metadata for key, one in of(events, Started).items()}
    assert metadata["a"]["fused"] == 2
    assert "fused" not in metadata["c"]


def test_the_trials_of_a_stack_that_fails_early_train_one_by_one(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Iterator[Any]:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(checkpointer, "train_stack", broken)
    events = list(stacks.events(stack_of("ab", data_root)))
    assert {end.outcome for end in ends(events).values()} == {Outcome.DONE}
    assert of(events, Started)["a"].metadata["not_fused"] == "the stack failed: no such kernel"


def test_a_stack_that_fails_later_fails_its_unfinished_trials(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole: Callable[..., Iterator[Any]] = train_stack

    def breaks(stack: Stack, *rest: Any) -> Iterator[Any]:
        for key, record in whole(stack, *rest):
            yield key, record
            if isinstance(record, Measured) and record.epoch == 1:
                raise RuntimeError("gone")

    monkeypatch.setattr(checkpointer, "train_stack", breaks)
    found = ends(list(stacks.events(stack_of("ab", data_root))))
    assert {end.outcome for end in found.values()} == {Outcome.FAILED}
    assert "RuntimeError: gone" in found["b"].reason
    assert "gone" in found["b"].traceback
