"""Which harness runs which trial, where several run one experiment at the same time.

A claim is a lock on one byte of a file that all harnesses of a store's folder share: the system
gives it to one process alone, and takes it back when that process dies, however it dies. Nothing
is left to clean up, and no clock is trusted.
"""

from __future__ import annotations

import errno
import logging
import os
import random
import time
from collections.abc import Mapping
from enum import Enum, auto
from pathlib import Path

from harness.experiment.spec import PlannedTrial
from harness.records import Outcome
from harness.tracking.index import RunInfo
from harness.tracking.store import Store

PRESENCE = 1 << 62
"""Where in the file the bytes lie that say who is there; trials have theirs before it."""
PRESENCE_SIZE = 1 << 40
FRESH_SECONDS = 1.0
"""How old the store's answer may be for a trial that another harness holds."""

_logger = logging.getLogger(__name__)


class Claim(Enum):
    """GRANTED: ours to run. HELD: another harness has it. DONE: another has run it."""

    GRANTED = auto()
    HELD = auto()
    DONE = auto()


class Claims:
    """This process's claims on an experiment's trials, until the `with` block is left.

    known: the runs that stood in the store when it was decided what to run. Harnesses see each
    other where they share the store's folder (`Store.home`): two machines that share only a server
    do not.
    """

    def __init__(self, store: Store, experiment_id: str, known: Mapping[str, RunInfo]) -> None:
        self._store = store
        self._experiment_id = experiment_id
        self._known = known
        self._found = known
        self._asked = 0.0
        self._size = 0
        self._others = True
        self._file: int | None = None
        self._own = PRESENCE + random.randrange(PRESENCE_SIZE)  # noqa: S311 - no secret

    def __enter__(self) -> Claims:
        path = self._store.claims(self._experiment_id)
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

    def take(self, planned: PlannedTrial) -> Claim:
        """Claim a trial. It stays claimed after it has run: whoever gets it next knows that this
        process is gone, and looks in the store."""
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
        run, before = self._found.get(planned.trial_id), self._known.get(planned.trial_id)
        if run is None or run.outcome in (None, Outcome.INTERRUPTED):
            return False
        return before is None or run.run_id != before.run_id

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
        self._found = self._store.finished(self._experiment_id)
        self._asked = time.monotonic()


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
