"""Which harness runs which trial, where several run one experiment at the same time.

On one machine a claim is a lock on one byte of a file that all harnesses of a store's folder share:
the system gives it to one process alone, and takes it back when that process dies, however it dies.
Nothing is left to clean up, and no clock is trusted.

Machines that share only a server claim through it as well (`Claims.share`). Each harness writes
what it claims on its own parent run, and then reads the others': of two that claim one trial, the
one that wrote later sees the other, in whatever order and however slow the server is, so that never
both begin. Where both see each other, the one whose run has the higher id withdraws.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import time
from collections.abc import Mapping
from pathlib import Path

from harness.core.errors import StoreUnreachable
from harness.core.records import NOT_REPEATED, Claim
from harness.experiment.plan import PlannedTrial
from harness.store.coordination.leases import Lease
from harness.store.read.runs import RunSummary
from harness.store.store import Store

PRESENCE = 1 << 62
"""Where in the file the bytes lie that say who is there; trials have theirs before it."""
PRESENCE_SIZE = 1 << 40
FRESH_SECONDS = 1.0
"""How old the store's answer may be for a trial that another harness holds."""
CONTEST_SECONDS = 0.2
CONTEST_LOOKS = 10
"""How often, and with what pauses, the one that need not withdraw looks whether the other has."""
OUTAGE_SECONDS = 10.0
"""How long a server that did not answer is not asked again for claims."""

_logger = logging.getLogger(__name__)


class Claims:
    """This process's claims on an experiment's trials, until the `with` block is left.

    known: the runs that stood in the store when it was decided what to run. Harnesses that share
    the store's folder (`Store.home`) see each other; those that share only a server do after
    `share`.
    """

    def __init__(self, store: Store, experiment_id: str, known: Mapping[str, RunSummary]) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._known = known
        self._found = known
        self._asked = 0.0
        self._size = 0
        self._others = True
        self._file: int | None = None
        self._own = PRESENCE + random.randrange(PRESENCE_SIZE)  # noqa: S311 - no secret
        self._remote: _Remote | None = None

    def __enter__(self) -> Claims:
        path = self._store.claims_file(self._experiment_id)
        try:
            self._file = _open(path)
            _lock(self._file, self._own, wait=True)
        except (ImportError, OSError) as error:
            _logger.warning("no claims here (%s): run one harness at a time", error)
            self._file = None
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def share(self, lease: Lease) -> None:
        """Claim through the store too, where it is a server, which other machines may use."""
        if self._store.database is None:
            self._remote = _Remote(self._store, self._experiment_id, lease)

    def take(self, planned: PlannedTrial) -> Claim:
        """Claim a trial. It stays claimed after it has run: whoever gets it next knows that this
        process is gone, and looks in the store.

        Raises StoreError; HarnessError where this harness was taken for dead.
        """
        claim = self._take_here(planned)
        if claim is Claim.GRANTED and self._remote is not None:
            return self._remote.take(planned, self._known.get(planned.trial_id))
        return claim

    def release(self, planned: PlannedTrial) -> None:
        """A trial has ended and its run is in the store: other machines need not wait for it."""
        if self._remote is not None:
            self._remote.lease.release(planned.trial_id)

    def _take_here(self, planned: PlannedTrial) -> Claim:
        if self._file is None:
            return Claim.GRANTED
        if not _lock(self._file, int(planned.trial_id, 16) % PRESENCE):
            if time.monotonic() - self._asked > FRESH_SECONDS:
                self._ask()
            return Claim.DONE if self._is_done(planned) else Claim.HELD
        if self._others or os.fstat(self._file).st_size != self._size:
            self._ask()
        return Claim.DONE if self._is_done(planned) else Claim.GRANTED

    def _is_done(self, planned: PlannedTrial) -> bool:
        """Whether the trial has ended since it was decided to run it."""
        return _is_news(self._found.get(planned.trial_id), self._known.get(planned.trial_id))

    def _ask(self) -> None:
        """Read the store. Who comes later makes the file longer; who was there already is looked
        for first, so that nobody can end between the two unnoticed."""
        if self._file is None:
            return
        self._size = os.fstat(self._file).st_size
        self._others = not all(
            _lock(self._file, start, size) and _unlock(self._file, start, size)
            for start, size in (
                (PRESENCE, self._own - PRESENCE),
                (self._own + 1, PRESENCE + PRESENCE_SIZE - self._own),
            )
            if size
        )
        self._found = self._store.latest_runs(self._experiment_id)
        self._asked = time.monotonic()


class _Remote:
    """Claims through the store's server, by which machines see each other that share no folder."""

    def __init__(self, store: Store, experiment_id: str, lease: Lease) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self.lease = lease
        self._looked: float | None = None
        self._failed: float | None = None
        self._others: dict[str, set[str]] = {}

    def take(self, planned: PlannedTrial, before: RunSummary | None) -> Claim:
        """While the server does not answer, a harness that was alone goes on, and one that was not
        waits."""
        if self._failed is None or time.monotonic() - self._failed > OUTAGE_SECONDS:
            try:
                claim = self._take(planned.trial_id, before)
            except StoreUnreachable as error:
                _logger.warning("trials cannot be claimed now: %s", error)
                self._failed = time.monotonic()
            else:
                self._failed = None
                return claim
        if self._others:
            self.lease.release(planned.trial_id)
            return Claim.HELD
        self.lease.hold_later(planned.trial_id)
        return Claim.GRANTED

    def _take(self, trial_id: str, before: RunSummary | None) -> Claim:
        if self._is_held(trial_id):  # A look that is not old spares the server two writes.
            return Claim.DONE if self._is_done(trial_id, before) else Claim.HELD
        self.lease.hold(trial_id)
        if not self._wins(trial_id):
            self.lease.drop(trial_id)
            return Claim.HELD
        if self._is_done(trial_id, before):
            self.lease.release(trial_id)
            return Claim.DONE
        return Claim.GRANTED

    def _is_held(self, trial_id: str) -> bool:
        if self._looked is None or time.monotonic() - self._looked > FRESH_SECONDS:
            self._look()
        return any(trial_id in held for held in self._others.values())

    def _wins(self, trial_id: str) -> bool:
        """Whether nobody else claims what is written as ours."""
        for _ in range(CONTEST_LOOKS):
            self._look()
            rivals = [run_id for run_id, held in self._others.items() if trial_id in held]
            if not rivals:
                return True
            if min(rivals) < self.lease.run_id:
                return False
            time.sleep(CONTEST_SECONDS)
        return False

    def _look(self) -> None:
        self._others = self.lease.others()
        self._looked = time.monotonic()

    def _is_done(self, trial_id: str, before: RunSummary | None) -> bool:
        return _is_news(self._store.latest_run(self._experiment_id, trial_id), before)


def _is_news(run: RunSummary | None, before: RunSummary | None) -> bool:
    """Whether a trial has ended since it was decided to run it."""
    if run is None or run.outcome not in NOT_REPEATED:
        return False
    return before is None or run.run_id != before.run_id


def _open(path: Path) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    os.write(file, b"\n")
    return file


def _lock(file: int, start: int, size: int = 1, wait: bool = False) -> bool:
    import fcntl

    try:
        fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), size, start)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            return False
        raise
    return True


def _unlock(file: int, start: int, size: int) -> bool:
    import fcntl

    fcntl.lockf(file, fcntl.LOCK_UN, size, start)
    return True
