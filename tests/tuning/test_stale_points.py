"""Points of machines that share only the studies' storage."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from optuna.trial import TrialState

from harness.store.coordination import leases
from harness.store.coordination.leases import LEASE_SECONDS, RENEW_SECONDS
from harness.store.coordination.processes import process_tag
from harness.tuning import storage
from harness.tuning import study as study_module
from harness.tuning.storage import Heartbeat, open_storage
from harness.tuning.study import SearchPoint, TuningStudy
from tests.tuning.tuning_support import FILE, counted, plans, write


@pytest.fixture
def machine(workspace: Path, data_root: Path) -> Iterator[Callable[[], TuningStudy]]:
    """Returns a function that opens the study as another machine would."""
    plan = plans(write(workspace, FILE.replace("[sgd, momentum]", "[momentum]")), data_root)[0]
    url = f"sqlite:///{workspace}/studies.db"
    with ExitStack() as stack:
        yield lambda: TuningStudy(
            stack.enter_context(open_storage(url, workspace, "x")), plan, "small"
        )


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns a function after which points are signed by a process of another host."""

    def move() -> None:
        signed = json.dumps({"host": "elsewhere", "boot": "x", "pid": 1, "born": "1"})
        for module in (study_module, storage):
            monkeypatch.setattr(module, "process_tag", lambda: signed)

    return move


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The steady clock of the observers, in seconds."""
    now = [1000.0]
    monkeypatch.setattr(storage, "monotonic", lambda: now[0])
    return now


def ask(study: TuningStudy) -> SearchPoint:
    found = study.ask()
    assert found is not None
    return found


def complete(study: TuningStudy, point: SearchPoint) -> None:
    point.values = [[0.5]]
    study.tell(point, TrialState.COMPLETE, "done")


def watch(
    study: TuningStudy, clock: list[float], seconds: float, heartbeat: Heartbeat | None = None
) -> int:
    """Advances the clock, and renews the heartbeat. Returns how many points were taken over."""
    taken = 0
    for _ in range(round(seconds / RENEW_SECONDS)):
        clock[0] += RENEW_SECONDS
        if heartbeat is not None:
            heartbeat.renew()
        taken += study.recover_lost()
    return taken


def test_points_of_a_dead_machine_are_retried_and_count_once_if_it_wakes_up(
    machine: Callable[[], TuningStudy],
    elsewhere: Callable[[], None],
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    here, there = machine(), machine()
    mine = ask(here)
    Heartbeat([here.optuna_study]).renew()
    elsewhere()
    heartbeat = Heartbeat([there.optuna_study])
    heartbeat.renew()
    points = [ask(there), ask(there), ask(there)]
    assert here.recover_lost() == 0
    assert watch(here, clock, 3 * LEASE_SECONDS, heartbeat) == 0, "its counter moves"
    assert watch(here, clock, LEASE_SECONDS - RENEW_SECONDS) == 0
    clock[0] += 10 * LEASE_SECONDS
    assert here.recover_lost() == 0, "the observer itself was away"
    assert here.is_over()
    assert watch(here, clock, LEASE_SECONDS) == 3
    assert here.remaining() == 3, "its own point is judged by its process"
    again = [ask(here) for _ in points]
    assert here.ask() is None
    assert [p.current.trial_id for p in again] == [p.current.trial_id for p in points]
    points[0].report(0.5, 1)
    assert not points[0].should_prune()
    complete(there, points[0])
    assert "another machine has taken it over" in caplog.text
    there.tell(points[1], TrialState.FAIL, "failed")
    assert there.retry(points[2], "its worker died")
    assert there.ask() is None
    for point in (mine, *again):
        complete(here, point)
    study = here.optuna_study
    assert [t.state for t in counted(study)] == [TrialState.COMPLETE] * 4
    assert all(trial.state.is_finished() for trial in study.trials)
    assert len(study.trials) == 7


def test_a_point_that_two_machines_take_over_at_once_counts_once(
    machine: Callable[[], TuningStudy], elsewhere: Callable[[], None], clock: list[float]
) -> None:
    here, there = machine(), machine()
    elsewhere()
    Heartbeat([there.optuna_study]).renew()
    lost = ask(there)
    assert watch(here, clock, LEASE_SECONDS + RENEW_SECONDS) == 1
    (first,) = [t for t in here.optuna_study.trials if t.state is TrialState.WAITING]
    there.optuna_study.enqueue_trial(lost.optuna_trial.params, user_attrs=first.user_attrs)
    while (point := here.ask()) is not None:
        complete(here, point)
    assert [t.state for t in counted(here.optuna_study)] == [TrialState.COMPLETE] * 4
    again = [t for t in counted(here.optuna_study) if t.params == lost.optuna_trial.params]
    assert [t.number for t in again] == [first.number]


def test_points_without_a_heartbeat_are_kept_and_unsigned_ones_taken_over(
    machine: Callable[[], TuningStudy], elsewhere: Callable[[], None], clock: list[float]
) -> None:
    here, there = machine(), machine()
    elsewhere()
    ask(there)
    unsigned = there.optuna_study.ask()
    assert watch(here, clock, 3 * LEASE_SECONDS) == 1
    running = [t.number for t in here.optuna_study.trials if t.state is TrialState.RUNNING]
    assert running == [0]
    assert unsigned.number == 1


def test_the_counter_exists_before_the_first_point_and_advances_by_itself(
    machine: Callable[[], TuningStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.01)
    study = machine().optuna_study
    deadline = time.monotonic() + 60

    def counter() -> int:
        return int(study.user_attrs[storage.LEASE + process_tag()])

    with Heartbeat([study]):
        first = counter()
        while counter() < first + 3:
            assert time.monotonic() < deadline, "nobody renews it"
            time.sleep(0.01)
