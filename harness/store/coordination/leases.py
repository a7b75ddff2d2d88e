"""A harness at work on an experiment, as other machines see it that share only the store.

Its parent run carries a counter, which it renews, and the trials that it has claimed. Whoever
watches judges by a steady clock of its own: a counter that has not moved for `LEASE_SECONDS` of
that clock belongs to a dead harness. No time of day is compared, so that a clock that is wrong,
or jumps, kills nobody.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from harness.core.errors import HarnessError, StoreError
from harness.store import names
from harness.store.coordination.processes import is_dead, is_on_this_host
from harness.store.coordination.stale_runs import close_run, running_runs
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

RENEW_SECONDS = 10.0
LEASE_SECONDS = 60.0
FAREWELL_SECONDS = 5.0
"""How long a renewal under way may hold up the end of a sweep."""
IDS_A_TAG = 400
"""Trial ids in one tag; MLflow's longest tag has 8000 characters."""

_logger = logging.getLogger(__name__)


class LeaseMonitor:
    """What one observer has seen of some counters.

    Time counts only while the observer looks: after a pause of more than half of `seconds`, its own
    or the store's, each counter gets its whole time again.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._seen: dict[str, tuple[str, float]] = {}
        self._looked = 0.0

    def expired(self, counters: Mapping[str, str], now: float) -> set[str]:
        """The keys whose counter has not moved for too long. now: seconds of a steady clock."""
        paused = now - self._looked > self._seconds / 2
        self._looked = now
        before, self._seen = self._seen, {}
        for key, counter in counters.items():
            told, since = before.get(key, (counter, now))
            self._seen[key] = (counter, now if paused or told != counter else since)
        return {key for key, (_, since) in self._seen.items() if now - since >= self._seconds}


class RenewalThread:
    """A thread that calls `renew` every `RENEW_SECONDS`, from `start` to `stop`; a long epoch does
    not stop it. passing: what a store raises that is away for a while."""

    def __init__(self, name: str, renew: Callable[[], None], passing: type[Exception]) -> None:
        self._renew = renew
        self._passing = passing
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=FAREWELL_SECONDS)

    def _run(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            try:
                self._renew()
            except self._passing as error:
                _logger.debug("the lease could not be renewed: %s", error)
            except Exception:  # A lease that nobody renews would be worse than any fault of one.
                _logger.warning("the lease could not be renewed", exc_info=True)


class Lease:
    """The lease of a parent run, from `start` to `stop`; a thread renews it, and closes the runs of
    harnesses on other machines whose lease has run out.

    `claim` and `release` may be called from any thread.
    """

    def __init__(self, store: Store, experiment_id: str, run_id: str) -> None:
        self.run_id = run_id
        self._store = store
        self._experiment_id = experiment_id
        self._watch = LeaseMonitor(LEASE_SECONDS)
        self._counter = 0
        self._held: dict[str, None] = {}
        self._written: dict[str, str] = {}
        self._lock = threading.Lock()
        self._renewal = RenewalThread("lease", self.renew, StoreError)

    def start(self) -> None:
        self._renewal.start()

    def stop(self) -> None:
        """Renew no more. The parent run is still to be ended: until then it counts as alive."""
        self._renewal.stop()

    def hold(self, trial_id: str) -> None:
        """Write that a trial is claimed. Raises StoreError."""
        with self._lock:
            self._held[trial_id] = None
            self._write_held()

    def hold_later(self, trial_id: str) -> None:
        """A trial is claimed, which the store is to hear when it answers again."""
        self._held[trial_id] = None

    def drop(self, trial_id: str) -> None:
        """Write that a trial is claimed no more. Raises StoreError."""
        self.release(trial_id)
        with self._lock:
            self._write_held()

    def release(self, trial_id: str) -> None:
        """A trial has ended, and its run says so. Written with the next claim or renewal."""
        self._held.pop(trial_id, None)

    def others(self) -> dict[str, set[str]]:
        """The trials that each living harness on this experiment has claimed, by its parent run.

        Raises StoreError; HarnessError where this harness itself was taken for dead.
        """
        found = {run.info.run_id: run for run in _parents(self._store, self._experiment_id)}
        if self.run_id not in found:
            raise HarnessError(
                f"this sweep's run {self.run_id} was closed by somebody else, as happens to one "
                f"that no other machine has heard of for {LEASE_SECONDS:.0f} s: "
                "run the same command again and it goes on"
            )
        return {
            run_id: claimed(run)
            for run_id, run in found.items()
            if run_id != self.run_id and not is_dead(run.data.tags.get(names.TAG_PROCESS, ""))
        }

    def renew(self) -> None:
        """Move the counter, and close the runs of those whose counter stands. Raises StoreError."""
        self._counter += 1
        with self._lock:
            self._tag(names.TAG_HEARTBEAT, str(self._counter))
            self._write_held()
        self._close_expired()

    def _close_expired(self) -> None:
        foreign = leased(self._store, self._experiment_id)
        foreign.pop(self.run_id, None)
        counters = {run_id: run.data.tags[names.TAG_HEARTBEAT] for run_id, run in foreign.items()}
        for run_id in self._watch.expired(counters, time.monotonic()):
            _close(self._store, self._experiment_id, foreign[run_id], by=self.run_id)

    def _write_held(self) -> None:
        """Bring the tags of claimed trials up to date; with the lock held."""
        wanted = dict(_tags(list(self._held)))
        wanted |= {name: "" for name in self._written if name not in wanted}
        for name, value in wanted.items():
            if self._written.get(name, "") != value:
                self._tag(name, value)
                self._written[name] = value

    def _tag(self, name: str, value: str) -> None:
        with_retries("write to a run", lambda: self._store.client.set_tag(self.run_id, name, value))


def leased(store: Store, experiment_id: str) -> dict[str, Run]:
    """The running parents of other machines, which their leases tell of, by id."""
    return {run.info.run_id: run for run in _parents(store, experiment_id) if is_leased(run)}


def expired_leases(store: Store, experiment_id: str) -> list[str]:
    """Watches the leases of other machines for as long as a lease lasts.

    Returns the ids of the parent runs whose lease has expired.
    """
    monitor, began = LeaseMonitor(LEASE_SECONDS), time.monotonic()
    while runs := leased(store, experiment_id):
        now = time.monotonic()
        counters = {run_id: run.data.tags[names.TAG_HEARTBEAT] for run_id, run in runs.items()}
        expired = monitor.expired(counters, now)
        if expired or now - began > LEASE_SECONDS + RENEW_SECONDS:
            return sorted(expired)
        time.sleep(RENEW_SECONDS / 2)
    return []


def _close(store: Store, experiment_id: str, parent: Run, by: str) -> None:
    """Children first: a parent that is closed has none left to look after. by: the run in whose
    place the children's count no more."""
    gone = parent.info.run_id
    why = f"the lease of its harness ran out: nothing was heard of it for {LEASE_SECONDS:.0f} s"
    children = running_runs(store, experiment_id, f"tags.`mlflow.parentRunId` = '{gone}'")
    for child in children:
        # Should its harness live after all, what it still writes counts for nothing.
        with_retries(
            "write to a run",
            partial(store.client.set_tag, child.info.run_id, names.TAG_SUPERSEDED, by),
        )
    for run in (*children, parent):
        close_run(store, run, why)
    _logger.warning("took over from the harness of run %s: %s", gone, why)


def _parents(store: Store, experiment_id: str) -> list[Run]:
    return running_runs(store, experiment_id, f"tags.`{names.TAG_KIND}` != '{names.TRIAL}'")


def is_leased(run: Run) -> bool:
    """Whether a running parent is judged by its lease: nothing is known of its process here."""
    tags = run.data.tags
    return names.TAG_HEARTBEAT in tags and not is_on_this_host(tags.get(names.TAG_PROCESS, ""))


def claimed(run: Run) -> set[str]:
    """The trials that a parent run's harness has claimed."""
    return {
        trial_id
        for name, value in run.data.tags.items()
        if name.startswith(names.TAG_CLAIMS_PREFIX)
        for trial_id in value.split()
    }


def _tags(held: list[str]) -> Iterator[tuple[str, str]]:
    for number, start in enumerate(range(0, len(held), IDS_A_TAG)):
        yield f"{names.TAG_CLAIMS_PREFIX}{number}", " ".join(held[start : start + IDS_A_TAG])
