"""Every executor does what the protocol promises."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import Ended, Measured, Outcome, Started
from harness.execution.devices import DeviceSlots
from harness.execution.executors import process
from harness.execution.executors.base import Event, Executor, TrainingTask
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.runner.sweep import open_executor
from harness.sweep import parser
from tests.execution.support import drain
from tests.support import make_trial

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "inline": InlineExecutor,
    "process": lambda: ProcessExecutor([DeviceSlots("cpu", 2)]),
}


@pytest.fixture(params=EXECUTORS)
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    made = EXECUTORS[request.param]()
    yield made
    made.close()


@pytest.fixture
def workers() -> Iterator[ProcessExecutor]:
    made = ProcessExecutor([DeviceSlots("cpu", 2)])
    yield made
    made.close()


def task(key: str, root: Path, **fields: object) -> TrainingTask:
    return TrainingTask({key: make_trial(**{"epochs": 1, **fields})}, root, test_outputs=False)


def ends(events: list[Event]) -> dict[str, Ended]:
    found = [(e.key, e.record) for e in events if isinstance(e.record, Ended)]
    assert len(dict(found)) == len(found), "a task ended twice"
    return dict(found)


def test_each_task_ends_once_its_records_in_order(executor: Executor, data_root: Path) -> None:
    events = drain(executor, *(task(key, data_root, seed=ord(key)) for key in "abc"))
    assert set(ends(events)) == set("abc")
    for key in "abc":
        kinds = [type(e.record) for e in events if e.key == key]
        assert kinds == [Started, Measured, Measured, Ended]


def test_a_trial_that_raises_fails_alone(executor: Executor, data_root: Path) -> None:
    # An absurd width passes validation and fails in torch, as a user's model would.
    broken = task("broken", data_root, model={"name": "mlp", "hidden": [2**50]})
    found = ends(drain(executor, broken, task("whole", data_root)))
    assert found["broken"].outcome is Outcome.FAILED
    assert "Error" in found["broken"].reason
    assert "in build" in found["broken"].traceback
    assert found["whole"].outcome is Outcome.DONE


def test_an_absent_device_fails_the_trial_without_a_traceback(
    executor: Executor, data_root: Path
) -> None:
    executor.submit(task("far", data_root, device="cuda:63"))
    (ended,) = ends(drain(executor)).values()
    assert "cuda:63" in ended.reason
    assert ended.traceback == ""


def test_a_cancelled_task_ends_as_interrupted(executor: Executor, data_root: Path) -> None:
    executor.submit(task("running", data_root, epochs=10_000))
    first = executor.next()
    assert first is not None
    for key in ("running", "unknown"):
        executor.cancel(key)
    others = [task(key, data_root) for key in ("second", "third")]
    found = ends([first, *drain(executor, *others)])
    assert found["running"].outcome is Outcome.INTERRUPTED
    assert found["second"].outcome is found["third"].outcome is Outcome.DONE


def test_a_task_cancelled_before_it_begins_ends_as_interrupted(
    executor: Executor, data_root: Path
) -> None:
    executor.submit(task("a", data_root, epochs=10_000))
    executor.cancel("a")
    found = ends(drain(executor, task("after", data_root)))
    assert found["a"].outcome is Outcome.INTERRUPTED
    assert found["after"].outcome is Outcome.DONE


def test_closing_forgets_everything_and_may_be_repeated(
    executor: Executor, data_root: Path
) -> None:
    executor.submit(task("a", data_root, epochs=10_000))
    executor.next()
    executor.close()
    executor.close()
    assert executor.next() is None
    assert not multiprocessing.active_children()


@pytest.mark.slow
def test_executors_measure_the_same(data_root: Path) -> None:
    """To the last bit, in any order, with any number of workers: threads are equal, and nothing
    depends on what ran before a trial or beside it."""
    dropout = {"name": "mlp", "hidden": [16], "dropout": 0.2}
    tasks = [
        task(f"{optimizer} {seed}", data_root, seed=seed, optimizer=optimizer, model=dropout)
        for seed in range(3)
        for optimizer in ("adam", "momentum")
    ]
    forward = measured(InlineExecutor(), tasks)
    assert len(forward) == 12
    assert measured(InlineExecutor(), tasks[::-1]) == forward
    for workers in (1, 2, 3):
        shuffled = tasks[workers:] + tasks[:workers]
        assert measured(ProcessExecutor([DeviceSlots("cpu", workers)]), shuffled) == forward


def measured(
    executor: Executor, tasks: list[TrainingTask]
) -> dict[tuple[str, int], dict[str, float]]:
    """What an executor measures of each trial at each epoch, apart from the clocks."""
    events = drain(executor, *tasks)
    executor.close()
    return {
        (e.key, e.record.epoch): {
            name: value
            for name, value in e.record.values.items()
            if not name.startswith(MACHINE_DEPENDENT)
        }
        for e in events
        if isinstance(e.record, Measured)
    }


def test_workers_share_what_they_prepare(workers: ProcessExecutor, data_root: Path) -> None:
    """One copy in the shared cache for all seeds, whoever made it, and none left behind."""
    tasks = [task(str(n), data_root, lr=0.1 + n / 100, seed=n % 2) for n in range(6)]
    drain(workers, *tasks)
    assert workers._shared is not None
    folder = workers._shared.path
    assert len(list(folder.glob("*.pt"))) == 2, "the data set, and its examples made ready"
    workers.close()
    assert not folder.exists()


def test_what_data_sets_import_is_imported_once_for_all_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Sequence[str]] = []
    flags = parser().parse_args(["any.yaml", "--executor", "process", "--workers", "2"])
    monkeypatch.setattr(process, "prepare", lambda _, imports: told.append(imports))
    for names in (("iris", "digits", "mnist"), ("mnist", "mnist")):
        trials = [make_trial(dataset=name) for name in names]
        open_executor(trials, flags).prepare()
    assert told == [("sklearn.model_selection",), ()]


def test_a_killed_worker_fails_its_task_alone_and_is_replaced(
    workers: ProcessExecutor, data_root: Path
) -> None:
    workers.submit(task("victim", data_root, epochs=10_000))
    event = workers.next()
    assert event is not None
    (victim,) = multiprocessing.active_children()
    workers.submit(task("other", data_root))
    victim.kill()
    found = ends(drain(workers, task("after", data_root)))
    assert found["victim"].outcome is Outcome.FAILED
    assert "signal 9" in found["victim"].reason
    assert found["other"].outcome is found["after"].outcome is Outcome.DONE


def test_a_worker_killed_while_idle_is_no_trials_fault(
    workers: ProcessExecutor, data_root: Path
) -> None:
    workers.submit(task("before", data_root))
    drain(workers)
    for idle in multiprocessing.active_children():
        idle.kill()
        idle.join()
    workers.submit(task("after", data_root))
    assert ends(drain(workers))["after"].outcome is Outcome.DONE


def test_next_returns_none_when_time_is_up(workers: ProcessExecutor, data_root: Path) -> None:
    workers.submit(task("a", data_root, epochs=10_000))
    assert workers.next(timeout=0.0) is None


def test_test_outputs_arrive_whole_from_another_process(
    workers: ProcessExecutor, data_root: Path
) -> None:
    trial = make_trial(epochs=1)
    workers.submit(TrainingTask({"a": trial}, data_root, test_outputs=True))
    (ended,) = ends(drain(workers)).values()
    workers.close()
    assert ended.test_outputs is not None
    assert ended.test_outputs.outputs.shape == (len(ended.test_outputs.targets), 10)
    assert (
        sum(t.numel() for t in ended.test_outputs.state_dict.values())
        == 64 * 16 + 16 + 16 * 10 + 10
    )
