"""Which process trains which trial, where several run one experiment at the same time.

A claim has two backends. Processes that share the store's folder claim a trial by locking one byte
of a file (`MachineClaims`): the system gives the lock to one process alone and takes it back when
that process ends, however it ends. Machines that share only an MLflow server claim through it as
well (`ServerClaims`).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Mapping

from harness.core.errors import StoreUnreachable
from harness.core.files import ByteLocks
from harness.core.records import NOT_REPEATED, Claim
from harness.experiment.plan import PlannedTrial
from harness.store.coordination.leases import Lease
from harness.store.read.runs import RunSummary
from harness.store.store import Store

PROCESS_BYTES = 1 << 62
"""Where the bytes begin that stand for processes; each trial has a byte before them."""
PROCESS_BYTES_COUNT = 1 << 40
FRESH_SECONDS = 1.0
"""How old the store's answer may be for a trial that another process holds."""
CONTEST_SECONDS = 0.2
CONTEST_LOOKS = 10
"""Of two processes that claim one trial at once, one withdraws. How often the other one looks
whether it has, and the pause between two looks."""
OUTAGE_SECONDS = 10.0
"""After a server did not answer, how long it is not asked for claims again."""

_logger = logging.getLogger(__name__)


class Claims:
    """This process's claims on the trials of an experiment, while the context is open.

    known: the latest runs in the store when it was decided which trials to train.
    """

    def __init__(self, store: Store, experiment_id: str, known: Mapping[str, RunSummary]) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._known = known
        self._machine: MachineClaims | None = None
        self._server: ServerClaims | None = None

    def __enter__(self) -> Claims:
        try:
            self._machine = MachineClaims(self._store, self._experiment_id, self._known)
        except (ImportError, OSError) as error:
            _logger.warning("trials cannot be claimed here (%s): run one sweep at a time", error)
        return self

    def __exit__(self, *error: object) -> None:
        if self._machine is not None:
            self._machine.close()
            self._machine = None

    def share(self, lease: Lease) -> None:
        """Claims through the store too, if it is a server that other machines may use."""
        if self._store.database is None:
            self._server = ServerClaims(self._store, self._experiment_id, self._known, lease)

    def take(self, planned: PlannedTrial) -> Claim:
        """Claims a trial.

        It stays claimed after it was trained: whoever gets it next knows that this process has
        ended, and looks in the store. Raises StoreError; HarnessError if another machine took this
        process for dead.
        """
        for backend in (self._machine, self._server):
            claim = backend.take(planned.trial_id) if backend is not None else Claim.GRANTED
            if claim is not Claim.GRANTED:
                return claim
        return Claim.GRANTED

    def release(self, planned: PlannedTrial) -> None:
        """Ends the claim that other machines see, once the trial's run is in the store."""
        if self._server is not None:
            self._server.lease.release(planned.trial_id)


class MachineClaims:
    """Claims between processes that share the store's folder, by locks on bytes of a file.

    Raises OSError if the file cannot be opened, ImportError on systems without such locks.
    """

    def __init__(self, store: Store, experiment_id: str, known: Mapping[str, RunSummary]) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._known = known
        self._latest = known
        self._read_at = 0.0
        self._size = 0
        self._has_others = True
        self._own_byte = PROCESS_BYTES + random.randrange(PROCESS_BYTES_COUNT)  # noqa: S311
        self._locks = ByteLocks(store.claims_file(experiment_id))
        self._locks.lengthen()
        self._locks.lock(self._own_byte, wait=True)

    def take(self, trial_id: str) -> Claim:
        """Claims a trial. The store is read only if another process may have trained it."""
        if not self._locks.lock(int(trial_id, 16) % PROCESS_BYTES):
            if time.monotonic() - self._read_at > FRESH_SECONDS:
                self._read()
            return Claim.DONE if self._is_done(trial_id) else Claim.HELD
        if self._has_others or self._locks.size() != self._size:
            self._read()
        return Claim.DONE if self._is_done(trial_id) else Claim.GRANTED

    def close(self) -> None:
        self._locks.close()

    def _is_done(self, trial_id: str) -> bool:
        return _has_ended_since(self._known.get(trial_id), self._latest.get(trial_id))

    def _read(self) -> None:
        """Reads the store. A process that comes makes the file longer; those that are there are
        looked for before reading, so that none can end between the two unnoticed."""
        self._size = self._locks.size()
        self._has_others = not all(
            self._is_free(start, end)
            for start, end in (
                (PROCESS_BYTES, self._own_byte),
                (self._own_byte + 1, PROCESS_BYTES + PROCESS_BYTES_COUNT),
            )
            if start < end
        )
        self._latest = self._store.latest_runs(self._experiment_id)
        self._read_at = time.monotonic()

    def _is_free(self, start: int, end: int) -> bool:
        if not self._locks.lock(start, end - start):
            return False
        self._locks.unlock(start, end - start)
        return True


class ServerClaims:
    """Claims between machines that share only a server, through tags of their parent runs.

    A process writes what it claims to its own parent run, then reads those of the others. Of two
    that claim one trial, the one that wrote later sees the other, however slow the server is, so
    that never both train it. If both see each other, the one with the higher run id withdraws.
    """

    def __init__(
        self, store: Store, experiment_id: str, known: Mapping[str, RunSummary], lease: Lease
    ) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._known = known
        self.lease = lease
        self._read_at: float | None = None
        self._failed_at: float | None = None
        self._others: dict[str, set[str]] = {}

    def take(self, trial_id: str) -> Claim:
        """Claims a trial. While the server does not answer, a process that was alone goes on, and
        one that was not waits."""
        if self._failed_at is None or time.monotonic() - self._failed_at > OUTAGE_SECONDS:
            try:
                claim = self._ask_server(trial_id)
            except StoreUnreachable as error:
                _logger.warning("trials cannot be claimed now: %s", error)
                self._failed_at = time.monotonic()
            else:
                self._failed_at = None
                return claim
        if self._others:
            self.lease.release(trial_id)
            return Claim.HELD
        self.lease.claim_later(trial_id)
        return Claim.GRANTED

    def _ask_server(self, trial_id: str) -> Claim:
        if self._read_at is None or time.monotonic() - self._read_at > FRESH_SECONDS:
            self._read_others()
        if self._rivals(trial_id):  # Seen without writing, which spares the server two requests.
            return Claim.DONE if self._is_done(trial_id) else Claim.HELD
        self.lease.claim(trial_id)
        if not self._wins(trial_id):
            self.lease.withdraw(trial_id)
            return Claim.HELD
        if self._is_done(trial_id):
            self.lease.release(trial_id)
            return Claim.DONE
        return Claim.GRANTED

    def _wins(self, trial_id: str) -> bool:
        """Returns whether this process gets the trial: of several claimants, the lowest run id."""
        for _ in range(CONTEST_LOOKS):
            self._read_others()
            rivals = self._rivals(trial_id)
            if not rivals:
                return True
            if min(rivals) < self.lease.run_id:
                return False
            time.sleep(CONTEST_SECONDS)
        return False

    def _rivals(self, trial_id: str) -> list[str]:
        return [run_id for run_id, claimed in self._others.items() if trial_id in claimed]

    def _read_others(self) -> None:
        self._others = self.lease.claims_of_others()
        self._read_at = time.monotonic()

    def _is_done(self, trial_id: str) -> bool:
        latest = self._store.latest_run(self._experiment_id, trial_id)
        return _has_ended_since(self._known.get(trial_id), latest)


def _has_ended_since(known: RunSummary | None, latest: RunSummary | None) -> bool:
    """Returns whether a trial has ended since it was decided to train it."""
    if latest is None or latest.outcome not in NOT_REPEATED:
        return False
    return known is None or latest.run_id != known.run_id
