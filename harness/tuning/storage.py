"""Where studies are stored, and which of their points a dead process has left running.

A study lives in a journal in `mlruns/` by default, or in any storage that Optuna supports.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Final

import optuna
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from harness.core.errors import HarnessError, StoreError
from harness.core.files import file_lock
from harness.store.coordination.leases import LEASE_SECONDS, LeaseMonitor, RenewalThread
from harness.store.coordination.processes import (
    describe,
    is_dead,
    is_on_this_host,
    process_tag,
)
from harness.store.retry import describe_error
from harness.store.uris import redact

FOLDER = "studies"
"""The folder of the journals, beside the MLflow store."""
OWNER: Final = "owner"
"""User attribute of a point: the process that trains it."""
LEASE: Final = "lease "
"""User attribute of a study, followed by an owner: the counter of that owner's heartbeat."""
_READ_SECONDS = 2.0
"""How long a live reader may hold the journal's lock before the lock counts as left behind."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyStorage:
    """An open storage.

    label: its address as people may see it, without a password.
    shared: whether other processes or machines may work on its studies at the same time.
    """

    storage: BaseStorage
    label: str
    shared: bool


@contextmanager
def open_storage(where: str, home: Path, name: str) -> Iterator[StudyStorage]:
    """Opens the storage at `where`: a URL, or a journal's path.

    Where it is empty, opens the journal of this name under `home`. Raises StoreError where the
    storage cannot be opened, and HarnessError where another search is using the journal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in where:
        yield StudyStorage(_database(where), redact(where), shared=True)
        return
    path = Path(where) if where else home / FOLDER / f"{name}.journal"
    with ExitStack() as lock:
        try:
            # Against other searches. It ends with the process that holds it.
            lock.enter_context(file_lock(path.with_name(path.name + ".search"), timeout=0))
            _remove_left_lock(path)
            repair(path)
            journal = JournalStorage(JournalFileBackend(str(path)))
        except TimeoutError:
            raise HarnessError(
                f"another search is using {path}; for several machines or processes give a "
                "database, as in --storage postgresql://…"
            ) from None
        except OSError as error:
            raise StoreError(f"cannot open the studies' journal {path}: {error}") from error
        yield StudyStorage(journal, str(path), shared=False)


def _database(url: str) -> BaseStorage:
    try:
        return optuna.storages.get_storage(RDBStorage(url))
    except Exception as error:  # noqa: BLE001 - drivers raise exceptions of their own
        raise StoreError(
            f"cannot open the studies' storage {redact(url)}: {describe_error(error)}"
        ) from None


def repair(path: Path) -> None:
    """Cuts a journal's last line where a kill or a full disk left it incomplete.

    Optuna would append to that line, and then reject the whole journal. A file beside the
    journal keeps the bytes.
    """
    if not path.is_file():
        return
    with path.open("rb") as journal:
        lines = journal.readlines()
    torn = b""
    while lines and not _is_complete(lines[-1]):
        torn = lines.pop() + torn
    if not torn:
        return
    with path.with_name(path.name + ".torn").open("ab") as backup:
        backup.write(torn + b"\n")
    with path.open("r+b") as journal:
        journal.truncate(path.stat().st_size - len(torn))
        journal.flush()
        os.fsync(journal.fileno())
    _logger.warning("%s: the last line was incomplete; %d bytes were cut", path, len(torn))


def _is_complete(line: bytes) -> bool:
    try:
        return line.endswith(b"\n") and isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _remove_left_lock(path: Path) -> None:
    """Removes Optuna's own lock where a killed search left it; Optuna would wait for 30 s."""
    lock = path.with_name(path.name + ".lock")
    deadline = monotonic() + _READ_SECONDS
    while lock.is_symlink():
        if monotonic() > deadline:
            lock.unlink(missing_ok=True)
        sleep(0.05)


class Heartbeat:
    """Renews this process's counter in each study while the context is open.

    A thread renews it, so that a long epoch does not stop it.
    """

    def __init__(self, studies: Sequence[optuna.Study]) -> None:
        self._studies = studies
        self._counter = 0
        self._renewal = RenewalThread("heartbeat", self.renew, StorageInternalError)

    def __enter__(self) -> Heartbeat:
        self.renew()  # Before the first point: a point without a counter is never taken over.
        self._renewal.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._renewal.stop()

    def renew(self) -> None:
        """Advances the counter. Raises what the storage raises."""
        self._counter += 1
        for study in self._studies:
            study.set_user_attr(LEASE + process_tag(), self._counter)


def trainers(studies: Sequence[optuna.Study]) -> list[str]:
    """Returns the processes that train the running points, as people may look for them."""
    running = (t for study in studies for t in study.get_trials(False, (TrialState.RUNNING,)))
    return sorted({describe(trial.user_attrs.get(OWNER, "")) for trial in running})


class StalePoints:
    """Finds the points of a shared study whose process has died, here or on another machine.

    A process of this host is looked up by its number. A process of another host has died when its
    heartbeat's counter has stood still for `LEASE_SECONDS` of this process's steady clock. No times
    of day are compared.
    """

    def __init__(self, study: optuna.Study) -> None:
        self._study = study
        self._watch = LeaseMonitor(LEASE_SECONDS)

    def among(self, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
        """Returns the running points whose process is dead.

        Only repeated calls detect dead processes on other hosts.
        """
        running = [trial for trial in trials if trial.state is TrialState.RUNNING]
        expired = self._watch.expired(self._counters(running), monotonic())
        return [
            trial
            for trial in running
            if _owner_of(trial) in expired or is_dead(trial.user_attrs.get(OWNER, ""))
        ]

    def _counters(self, running: Sequence[FrozenTrial]) -> dict[str, str]:
        """Returns the counters of the owners that cannot be looked up on this host.

        A point that its process has not signed yet has a counter that never moves. An owner that
        never had a counter is left out.
        """
        signed = {_owner_of(trial) for trial in running if OWNER in trial.user_attrs}
        unsigned = {_owner_of(trial): "" for trial in running if OWNER not in trial.user_attrs}
        foreign = {name for name in signed if not is_on_this_host(name)}
        stored = self._study.user_attrs if foreign else {}
        return unsigned | {n: str(stored[LEASE + n]) for n in foreign if LEASE + n in stored}


def _owner_of(trial: FrozenTrial) -> str:
    """Returns the process that trains a point, or the point's number where none has signed it."""
    return str(trial.user_attrs.get(OWNER, f"#{trial.number}"))
