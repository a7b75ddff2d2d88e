"""Where studies live: a journal in `mlruns/` by default, or any storage that Optuna knows."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from harness.core.errors import HarnessError, StoreError
from harness.store.retry import reason
from harness.store.uris import redact

FOLDER = "studies"
"""Of journals, beside the MLflow store."""
_WRITING_SECONDS = 2.0
"""How long a live reader of the journal may hold its lock before the lock counts as left over."""
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StudyStorage:
    """An open storage. label: its address as people may see it. shared: whether other processes,
    or other machines, may work on its studies at the same time."""

    storage: BaseStorage
    label: str
    shared: bool


@contextmanager
def open_storage(where: str, home: Path, experiment: str) -> Iterator[StudyStorage]:
    """Open what `where` names: a URL, a journal's path, or, empty, the experiment's own journal
    under `home`.

    Raises StoreError where it cannot be opened; HarnessError where another search has the journal.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" in where:
        yield StudyStorage(_database(where), redact(where), shared=True)
        return
    path = Path(where) if where else home / FOLDER / f"{experiment}.journal"
    with _alone(path):
        yield StudyStorage(_journal(path), str(path), shared=False)


def _journal(path: Path) -> BaseStorage:
    try:
        _clear_lock(path)
        repair(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise StoreError(f"cannot open the studies' journal {path}: {error}") from error


def repair(path: Path) -> int:
    """Cut a last line that was not written whole, as by a kill or a full disk. Returns how many
    bytes were cut; they are kept beside the journal.

    Optuna would append to the torn line, and then refuse the whole journal.
    """
    torn = torn_end(path)
    if not torn:
        return 0
    with path.with_name(path.name + ".torn").open("ab") as kept:
        kept.write(torn + b"\n")
    with path.open("r+b") as journal:
        journal.truncate(path.stat().st_size - len(torn))
        journal.flush()
        os.fsync(journal.fileno())
    _logger.warning("%s: its last line was torn; %d bytes are cut", path, len(torn))
    return len(torn)


def torn_end(path: Path) -> bytes:
    """What a journal ends with that is no whole line."""
    content = path.read_bytes() if path.is_file() else b""
    end = len(content)
    while end and not _is_whole(content[:end]):
        end = content.rfind(b"\n", 0, max(end - 1, 0)) + 1
    return content[end:]


def mend(path: Path) -> int:
    """`repair`, with no search at work on the journal; HarnessError where one is."""
    with _alone(path):
        return repair(path)


def _is_whole(content: bytes) -> bool:
    """Whether a journal ends with a whole line."""
    if not content.endswith(b"\n"):
        return False
    last = content[content.rfind(b"\n", 0, len(content) - 1) + 1 :]
    try:
        return isinstance(json.loads(last), dict)
    except ValueError:
        return False


def _database(url: str) -> BaseStorage:
    try:
        return optuna.storages.get_storage(RDBStorage(url))
    except Exception as error:  # noqa: BLE001 - drivers raise what they like
        raise StoreError(
            f"cannot open the studies' storage {redact(url)}: {reason(error)}"
        ) from None


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold the journal against other searches; the lock goes with the process that holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(path.name + ".search").open("a")
    except OSError as error:
        raise StoreError(f"cannot write beside the studies' journal {path}: {error}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise HarnessError(
                f"another search is working on {path}; for several machines or processes give a "
                "database, as in --storage postgresql://…"
            ) from None
        yield


def _clear_lock(path: Path) -> None:
    """Remove Optuna's own lock where a killed search left it; Optuna would wait half a minute."""
    lock = path.with_name(path.name + ".lock")
    deadline = time.monotonic() + _WRITING_SECONDS
    while lock.is_symlink():
        if time.monotonic() > deadline:
            lock.unlink(missing_ok=True)
        time.sleep(0.05)
