"""Leases: how processes on different machines, which share only the store, see who is alive.

The parent run of each sweep carries a counter, which its process increments every `RENEW_SECONDS`,
and the trials that the process has claimed. Another machine watches the counter by a monotonic
clock of its own: if it does not change for `LEASE_SECONDS`, the lease has run out and the process
counts as dead. Times of day are never compared, so that a wrong clock kills nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, StoreError
from harness.store import names
from harness.store.coordination.processes import is_dead, is_on_this_host
from harness.store.coordination.stale_runs import close_run, running_runs
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

RENEW_SECONDS = 10.0
LEASE_SECONDS = 60.0
STOP_SECONDS = 5.0
"""How long the end of a sweep waits for a renewal that is under way."""
IDS_A_TAG = 400
"""Trial ids in one tag; MLflow's longest tag has 8000 characters."""

_logger = logging.getLogger(__name__)


class LeaseMonitor:
    """Watches counters, and tells which have not changed for `seconds`.

    Time counts only while the caller watches: after a pause of more than half of `seconds`, every
    counter has its whole time again.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last_change: dict[str, tuple[str, float]] = {}
        self._last_look = 0.0

    def expired(self, counters: Mapping[str, str], now: float) -> set[str]:
        """Returns the keys whose counter has expired. now: seconds of a monotonic clock."""
        paused = now - self._last_look > self._seconds / 2
        self._last_look = now
        before, self._last_change = self._last_change, {}
        for key, counter in counters.items():
            previous, since = before.get(key, (counter, now))
            restart = paused or previous != counter
            self._last_change[key] = (counter, now if restart else since)
        return {
            key for key, (_, since) in self._last_change.items() if now - since >= self._seconds
        }


class RenewalThread:
    """Calls `renew` every `RENEW_SECONDS` in a thread, so that a long epoch does not stop it.

    expected: the exception that a store raises while it cannot be reached.
    """

    def __init__(self, name: str, renew: Callable[[], None], expected: type[Exception]) -> None:
        self._renew = renew
        self._expected = expected
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=STOP_SECONDS)

    def _run(self) -> None:
        while not self._stopped.wait(RENEW_SECONDS):
            try:
                self._renew()
            except self._expected as error:
                _logger.debug("the lease could not be renewed: %s", error)
            except Exception:  # Without renewals, others would take this process for dead.
                _logger.warning("the lease could not be renewed", exc_info=True)


class Lease:
    """The lease of a parent run: its counter and its claims.

    Between `start` and `stop` a thread renews it, and closes the runs of other machines whose lease
    has run out. `claim` and `release` may be called from any thread.
    """

    def __init__(self, store: Store, experiment_id: str, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._experiment_id = experiment_id
        self._monitor = LeaseMonitor(LEASE_SECONDS)
        self._counter = 0
        self._claimed: dict[str, None] = {}
        self._written_tags: dict[str, str] = {}
        self._lock = threading.Lock()
        self._renewal = RenewalThread("lease", self.renew, StoreError)

    def start(self) -> None:
        self._renewal.start()

    def stop(self) -> None:
        """Stops renewing. The parent run counts as alive until it is ended."""
        self._renewal.stop()

    def claim(self, trial_id: str) -> None:
        """Writes that a trial is claimed. Raises StoreError."""
        with self._lock:
            self._claimed[trial_id] = None
            self._write_claims()

    def claim_later(self, trial_id: str) -> None:
        """Claims a trial; the next claim or renewal writes it."""
        self._claimed[trial_id] = None

    def withdraw(self, trial_id: str) -> None:
        """Writes that a trial is no longer claimed. Raises StoreError."""
        self.release(trial_id)
        with self._lock:
            self._write_claims()

    def release(self, trial_id: str) -> None:
        """Ends a claim, as the trial's run says how it ended; the next claim or renewal writes
        it."""
        self._claimed.pop(trial_id, None)

    def claims_of_others(self) -> dict[str, set[str]]:
        """Returns the trials that each other living process has claimed, by its parent run.

        Raises StoreError; HarnessError if another machine took this process for dead.
        """
        parents = {
            run.info.run_id: run for run in running_parents(self._store, self._experiment_id)
        }
        if self.run_id not in parents:
            raise HarnessError(
                f"this sweep's run {self.run_id} was closed by somebody else, as happens to one "
                f"that no other machine has heard of for {LEASE_SECONDS:.0f} s: "
                "run the same command again and it goes on"
            )
        return {
            run_id: _claimed_trials(run)
            for run_id, run in parents.items()
            if run_id != self.run_id and not is_dead(run.data.tags.get(names.TAG_PROCESS, ""))
        }

    def renew(self) -> None:
        """Increments the counter, and closes the runs of processes whose lease has run out.

        Raises StoreError.
        """
        self._counter += 1
        with self._lock:
            self._write_tag(names.TAG_HEARTBEAT, str(self._counter))
            self._write_claims()
        parents = parents_elsewhere(self._store, self._experiment_id)
        parents.pop(self.run_id, None)
        for run_id in self._monitor.expired(_counters(parents), time.monotonic()):
            _close_with_children(
                self._store, self._experiment_id, parents[run_id], superseded_by=self.run_id
            )

    def _write_claims(self) -> None:
        """Writes the tags that changed. The caller holds the lock."""
        claimed = list(self._claimed)
        tags = {
            f"{names.TAG_CLAIMS_PREFIX}{number}": " ".join(claimed[start : start + IDS_A_TAG])
            for number, start in enumerate(range(0, len(claimed), IDS_A_TAG))
        }
        tags |= {name: "" for name in self._written_tags if name not in tags}
        for name, value in tags.items():
            if self._written_tags.get(name, "") != value:
                self._write_tag(name, value)
                self._written_tags[name] = value

    def _write_tag(self, name: str, value: str) -> None:
        self._store.set_tag(self.run_id, name, value)


def parents_elsewhere(store: Store, experiment_id: str) -> dict[str, Run]:
    """Returns the running parent runs of processes on other hosts, which a lease judges, by id."""
    return {
        run.info.run_id: run
        for run in running_parents(store, experiment_id)
        if names.TAG_HEARTBEAT in run.data.tags
        and not is_on_this_host(run.data.tags.get(names.TAG_PROCESS, ""))
    }


def expired_leases(store: Store, experiment_id: str) -> list[str]:
    """Watches the parent runs of other machines for as long as a lease takes, and returns those
    whose lease has run out."""
    monitor, started = LeaseMonitor(LEASE_SECONDS), time.monotonic()
    while parents := parents_elsewhere(store, experiment_id):
        now = time.monotonic()
        expired = monitor.expired(_counters(parents), now)
        if expired or now - started > LEASE_SECONDS + RENEW_SECONDS:
            return sorted(expired)
        time.sleep(RENEW_SECONDS / 2)
    return []


def _close_with_children(store: Store, experiment_id: str, parent: Run, superseded_by: str) -> None:
    """Closes a parent run after its children, as nobody looks after children of a closed parent."""
    parent_id = parent.info.run_id
    reason = f"the lease of its process ran out: nothing was heard of it for {LEASE_SECONDS:.0f} s"
    children = running_runs(store, experiment_id, f"tags.`{names.TAG_PARENT}` = '{parent_id}'")
    for child in children:
        # If its process is alive after all, what it still writes does not count.
        store.set_tag(child.info.run_id, names.TAG_SUPERSEDED, superseded_by)
    for run in (*children, parent):
        close_run(store, run, reason)
    _logger.warning("took over the trials of run %s: %s", parent_id, reason)


def running_parents(store: Store, experiment_id: str) -> list[Run]:
    """Returns the parent runs that have not ended, of all processes."""
    return running_runs(store, experiment_id, f"tags.`{names.TAG_KIND}` != '{names.TRIAL}'")


def _counters(parents: Mapping[str, Run]) -> dict[str, str]:
    return {run_id: run.data.tags[names.TAG_HEARTBEAT] for run_id, run in parents.items()}


def _claimed_trials(parent: Run) -> set[str]:
    tags = parent.data.tags.items()
    claims = (value for name, value in tags if name.startswith(names.TAG_CLAIMS_PREFIX))
    return {trial_id for value in claims for trial_id in value.split()}
