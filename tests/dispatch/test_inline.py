"""The inline engine keeps the protocol's word."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import make_trial

from harness.dispatch.engine import Event, Task
from harness.dispatch.inline import InlineEngine
from harness.kinds import Model
from harness.records import Ended, Outcome, Started
from harness.registry import find
from harness.trial import Trial


def task(key: str, root: Path, **fields: object) -> Task:
    return Task(key, make_trial(epochs=1, **fields), root, evidence=False)


def drain(engine: InlineEngine) -> list[Event]:
    found = []
    while (event := engine.next()) is not None:
        found.append(event)
    return found


def test_each_task_ends_once_and_in_turn(data_root: Path) -> None:
    engine = InlineEngine()
    for key in "ab":
        engine.submit(task(key, data_root))
    events = drain(engine)
    assert [e.key for e in events if isinstance(e.record, Started)] == ["a", "b"]
    assert [e.key for e in events if isinstance(e.record, Ended)] == ["a", "b"]
    assert events[-1].key == "b"


def test_an_exception_in_a_model_is_a_failed_trial(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ValueError("no such layer")

    broken = make_trial(epochs=1)
    component = find("models", "mlp")
    assert isinstance(component, Model)
    engine = InlineEngine()
    engine.submit(Task("broken", broken, data_root, evidence=False))
    engine.submit(task("whole", data_root, model="perceptron"))
    monkeypatch.setitem(component.__dict__, "build", explode)
    ends = {e.key: e.record for e in drain(engine) if isinstance(e.record, Ended)}
    failed = ends["broken"]
    assert failed.outcome is Outcome.FAILED
    assert failed.reason == "ValueError: no such layer"
    assert "explode" in failed.traceback
    assert ends["whole"].outcome is Outcome.DONE


def test_an_absent_device_fails_the_trial_without_a_traceback(data_root: Path) -> None:
    engine = InlineEngine()
    engine.submit(task("far", data_root, device="cuda:63"))
    (event,) = drain(engine)
    assert isinstance(event.record, Ended)
    assert "cuda:63" in event.record.reason
    assert event.record.traceback == ""


@pytest.mark.parametrize("started", [False, True])
def test_a_cancelled_task_ends_as_interrupted(data_root: Path, started: bool) -> None:
    engine = InlineEngine()
    engine.submit(task("a", data_root))
    if started:
        engine.next()
    engine.cancel("a")
    engine.cancel("unknown")
    (event,) = drain(engine)
    assert isinstance(event.record, Ended)
    assert event.record.outcome is Outcome.INTERRUPTED


def test_closing_forgets_everything(data_root: Path) -> None:
    engine = InlineEngine()
    engine.submit(task("a", data_root))
    engine.next()
    engine.close()
    engine.close()
    assert engine.next() is None


def test_trials_need_not_be_pickled_to_be_equal() -> None:
    assert Trial.of(make_trial().resolved()) == make_trial()
