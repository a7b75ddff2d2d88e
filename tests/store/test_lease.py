"""Leases and claims of machines that share only a server."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.core.errors import HarnessError, StoreUnreachable
from harness.core.records import Claim, Outcome
from harness.experiment.plan import Plan
from harness.store import names
from harness.store import store as store_module
from harness.store.coordination import claims, processes
from harness.store.coordination.claims import Claims
from harness.store.coordination.leases import IDS_A_TAG, LeaseMonitor
from harness.store.read import runs as reader
from harness.store.store import Store
from harness.store.write.sweep_writer import SweepWriter
from tests.store.store_support import GOAL, children, digits, done, make_plan

LOOKS = st.lists(st.tuples(st.floats(0, 40), st.booleans()), min_size=2, max_size=30)


@given(LOOKS)
def test_a_counter_expires_only_if_watched_without_a_pause(
    looks: list[tuple[float, bool]],
) -> None:
    watch, now, counter, still = LeaseMonitor(60.0), 1000.0, 0, 0.0
    watch.expired({"a": "0"}, now)
    for pause, moved in looks:
        now += pause
        counter += moved
        still = 0.0 if moved or pause > 30 else still + pause
        found = watch.expired({"a": str(counter)}, now)
        # Of a sum of pauses and a difference of times, the last digits differ.
        if abs(still - 60) > 1e-6:
            assert found == ({"a"} if still >= 60 else set())


def test_a_counter_that_returns_has_its_whole_time_again() -> None:
    watch = LeaseMonitor(60.0)
    for now in range(0, 50, 10):
        assert not watch.expired({"a": "1", "b": "1"}, now)
    assert not watch.expired({"b": "1"}, 50)
    assert watch.expired({"a": "1", "b": "1"}, 60) == {"b"}


@pytest.fixture
def served(store: Store, tmp_path: Path) -> Store:
    """The store as a machine sees it that shares only the server."""
    return apart(store, tmp_path / "one")


def apart(store: Store, home: Path) -> Store:
    return replace(store, database=None, home=home)


def three() -> Plan:
    return make_plan([digits(seed=seed) for seed in range(3)])


def test_two_machines_never_get_the_same_trial(served: Store, tmp_path: Path) -> None:
    plan, other = three(), apart(served, tmp_path / "other")
    with SweepWriter(served, plan, GOAL) as writer, SweepWriter(other, plan, GOAL) as second:
        known = served.latest_runs(writer.experiment_id)
        with (
            Claims(served, writer.experiment_id, known) as ours,
            Claims(other, writer.experiment_id, known) as theirs,
        ):
            ours.share(writer.lease)
            theirs.share(second.lease)
            assert ours.take(plan.trials[0]) is Claim.GRANTED
            assert theirs.take(plan.trials[0]) is Claim.HELD
            assert theirs.take(plan.trials[1]) is Claim.GRANTED
            assert ours.take(plan.trials[1]) is Claim.HELD
            for record in done():
                writer.record(plan.trials[0], record)
            writer.commit()
            ours.release(plan.trials[0])
            assert theirs.take(plan.trials[0]) is Claim.DONE
            writer.lease.renew()
            assert theirs.take(plan.trials[0]) is Claim.DONE
            assert second.lease.claims_of_others() == {writer.run_id: set()}


def test_simultaneous_claims_are_granted_to_one_process(
    served: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each process claims every trial until it is granted or held, and keeps what it is granted."""
    monkeypatch.setattr(claims, "CONTEST_SECONDS", 0.01)
    plan = make_plan([digits(seed=seed) for seed in range(8)])
    granted: list[str] = []
    faults: list[BaseException] = []
    together = threading.Barrier(3)

    def contend(number: int) -> None:
        try:
            mine = apart(served, tmp_path / str(number))
            writer = SweepWriter(mine, plan, GOAL)
            with Claims(mine, writer.experiment_id, {}) as taking:
                taking.share(writer.lease)
                together.wait(60)
                granted.extend(
                    planned.trial_id
                    for planned in plan.trials
                    if taking.take(planned) is Claim.GRANTED
                )
        except BaseException as error:  # noqa: BLE001 - a thread's fault is the test's
            faults.append(error)
            together.abort()

    threads = [threading.Thread(target=contend, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert set(Counter(granted).values()) == {1}


def test_many_claims_fit_in_tags(served: Store) -> None:
    plan = three()
    with SweepWriter(served, plan, GOAL) as writer, SweepWriter(served, plan, GOAL) as second:
        wanted = {f"{number:016x}" for number in range(2 * IDS_A_TAG + 1)}
        for trial_id in wanted:
            writer.lease.claim_later(trial_id)
        writer.lease.renew()
        assert second.lease.claims_of_others()[writer.run_id] == wanted
        for trial_id in list(wanted)[5:]:
            writer.lease.release(trial_id)
        writer.lease.renew()
        assert second.lease.claims_of_others()[writer.run_id] == set(list(wanted)[:5])


def elsewhere(store: Store, run_id: str) -> None:
    """Makes a run look like one of another machine."""
    tag = json.dumps(json.loads(processes.process_tag()) | {"host": "elsewhere"})
    store.client.set_tag(run_id, names.TAG_PROCESS, tag)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The monotonic clock, which the test advances."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_runs_of_a_dead_machine_are_closed_and_its_trials_released(
    served: Store, tmp_path: Path, clock: list[float]
) -> None:
    plan = three()
    gone = SweepWriter(served, plan, GOAL)
    begun = gone.record(plan.trials[0], done()[0])
    gone.commit()
    gone.lease.claim(plan.trials[0].trial_id)
    for run_id in (gone.run_id, begun.run_id):
        elsewhere(served, run_id)
    other = apart(served, tmp_path / "other")
    heir = SweepWriter(other, plan, GOAL)
    with Claims(other, heir.experiment_id, {}) as taking:
        taking.share(heir.lease)
        for _ in range(6):
            heir.lease.renew()
            clock[0] += 10
            assert taking.take(plan.trials[0]) is Claim.HELD
        heir.lease.renew()
        clock[0] += 10
        assert taking.take(plan.trials[0]) is Claim.GRANTED
    assert served.client.get_run(gone.run_id).info.status == "KILLED"
    left = served.client.get_run(begun.run_id)
    assert left.info.status == "KILLED"
    assert left.data.tags[names.TAG_OUTCOME] == Outcome.INTERRUPTED
    assert "lease" in left.data.tags[names.TAG_REASON]
    with pytest.raises(HarnessError, match="closed by somebody else"):
        gone.lease.claims_of_others()
    for record in done():  # It lived after all: what it writes now counts for nothing.
        gone.record(plan.trials[0], record)
    gone.commit()
    assert served.latest_runs(heir.experiment_id) == {}
    assert served.client.get_run(heir.run_id).info.status == "RUNNING"


def test_live_runs_and_runs_of_this_machine_are_never_closed(
    served: Store, clock: list[float]
) -> None:
    plan = three()
    here, renewing, watching = (SweepWriter(served, plan, GOAL) for _ in range(3))
    elsewhere(served, renewing.run_id)
    for _ in range(30):
        renewing.lease._write_tag(names.TAG_HEARTBEAT, str(clock[0]))
        watching.lease.renew()
        clock[0] += 10
    for writer in (here, renewing, watching):
        assert served.client.get_run(writer.run_id).info.status == "RUNNING"


def test_without_the_server_a_lone_process_goes_on_and_others_wait(
    served: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = three()
    writer = SweepWriter(served, plan, GOAL)

    def away(*_: object, **__: object) -> None:
        raise StoreUnreachable("no answer")

    with Claims(served, writer.experiment_id, {}) as taking:
        taking.share(writer.lease)
        assert taking.take(plan.trials[0]) is Claim.GRANTED
        with monkeypatch.context() as outage:
            for module in (store_module, reader):
                outage.setattr(module, "with_retries", away)
            assert taking.take(plan.trials[1]) is Claim.GRANTED
        writer.lease.renew()
        second = SweepWriter(apart(served, tmp_path / "other"), plan, GOAL)
        claimed = {planned.trial_id for planned in plan.trials[:2]}
        assert second.lease.claims_of_others()[writer.run_id] == claimed
        monkeypatch.setattr(claims, "OUTAGE_SECONDS", 0.0)
        assert taking.take(plan.trials[2]) is Claim.GRANTED
        with monkeypatch.context() as outage:
            for module in (store_module, reader):
                outage.setattr(module, "with_retries", away)
            writer.lease.release(plan.trials[2].trial_id)
            assert taking.take(plan.trials[2]) is Claim.HELD
    assert set(children(served)) == set()
