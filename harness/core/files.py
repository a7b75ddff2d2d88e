"""Files that survive faults, and that several processes share: checksummed content and locks.

A checksummed file is a line with the SHA-256 of the content, then the content as torch saves it. It
is replaced atomically, so that a reader finds either the old content or the new. The system
releases a lock when its process ends.
"""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.core.errors import first_line

if TYPE_CHECKING:
    from filelock import BaseFileLock

POLL_SECONDS = 0.02
QUIET_SECONDS = 30.0
"""How long a process waits for a lock before it says so."""
_logger = logging.getLogger(__name__)


class DamagedFile(Exception):
    """A file whose content does not match its checksum, or that torch cannot read."""


def write_checksummed(path: Path, content: object) -> None:
    """Writes tensors and primitives to `path`, through a temporary file that is synced and renamed.

    Raises OSError if writing fails; the file that was at `path` is then unchanged.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(hashlib.sha256(data).hexdigest().encode() + b"\n")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def load_checksummed(path: Path) -> Any:
    """Returns the content, with tensors on the CPU.

    Raises OSError if the file cannot be read, DamagedFile if its content is not what was written.
    """
    import torch

    checksum, _, data = path.read_bytes().partition(b"\n")
    if hashlib.sha256(data).hexdigest().encode() != checksum:
        raise DamagedFile("its content does not match its SHA-256 checksum")
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise DamagedFile(f"torch cannot read it: {first_line(error)}") from error


def load_or_warn(path: Path, consequence: str) -> Any:
    """Returns the content, or None after a warning if the file is missing or damaged.

    consequence: what the missing content means, as the warning should say it.
    """
    try:
        return load_checksummed(path)
    except OSError as error:
        _logger.warning("cannot read %s: %s", path, error)
    except DamagedFile as error:
        _logger.warning("%s is damaged; %s: %s", path, consequence, error)
    return None


def _sync(folder: Path) -> None:
    """Makes a renamed file survive a power cut, on systems that can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def file_lock(path: Path, timeout: float | None = None, tell: bool = True) -> Iterator[None]:
    """Holds an exclusive lock on a file, which is created, with its folder, if it does not exist.

    timeout: seconds to wait for another process; None waits for as long as it takes. A wait of more
    than `QUIET_SECONDS` is told as a warning, unless `tell` is False. Raises
    TimeoutError if another process still holds the lock, OSError if the file cannot be opened.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, thread_local=False)
    quiet = QUIET_SECONDS if timeout is None else min(timeout, QUIET_SECONDS)
    try:
        lock.acquire(quiet, poll_interval=POLL_SECONDS)
    except Timeout:
        if timeout is not None and timeout <= quiet:
            raise
        if tell:
            _logger.warning("waiting for %s, which holds %s", _holder(path), path)
        lock.acquire(-1 if timeout is None else timeout - quiet, poll_interval=POLL_SECONDS)
    try:
        yield
    finally:
        lock.release()


def lock_holders(path: Path) -> list[int]:
    """Returns the other processes of this machine that hold locks on a file, as far as Linux says:
    on other systems, and of other containers, none."""
    holders = set()
    with suppress(OSError):
        inode = str(path.stat().st_ino)
        for line in Path("/proc/locks").read_text().splitlines():
            # "1: POSIX ADVISORY WRITE 1234 08:01:5678 0 EOF"; with "->" for a process that waits.
            _, *fields = line.split()
            if fields[0] != "->" and fields[4].rpartition(":")[2] == inode:
                holders.add(int(fields[3]))
    return sorted(pid for pid in holders if pid > 0 and pid != os.getpid())


def _holder(path: Path) -> str:
    return " or ".join(f"process {pid}" for pid in lock_holders(path)) or "another process"


def try_lock(path: Path) -> BaseFileLock | None:
    """Locks a file without waiting. Returns the lock, to be released by its `release`, or None if
    another process holds it. Raises OSError if the file cannot be opened."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


class SharedLock:
    """A lock that several processes share, and that one may take for itself if it is alone.

    Waits while another process holds the file exclusively. Raises OSError if the file cannot be
    locked, ImportError on Windows.
    """

    def __init__(self, path: Path) -> None:
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._file, fcntl.LOCK_SH)
        except OSError:
            os.close(self._file)
            raise

    def make_exclusive(self) -> bool:
        """Returns whether no other process shares the lock; none can then until it is released."""
        import fcntl

        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def release(self) -> None:
        os.close(self._file)


class ByteLocks:
    """Exclusive locks on single bytes of one file, which need not exist in it.

    Each process has one set of locks: opening the same file a second time in a process, or closing
    it, changes the locks of the first. Raises OSError if the file cannot be opened, ImportError on
    Windows.
    """

    def __init__(self, path: Path) -> None:
        import fcntl

        self._fcntl = fcntl
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o644)

    def lock(self, start: int, count: int = 1, wait: bool = False) -> bool:
        """Locks bytes. Returns False if another process holds one of them; with `wait`, waits."""
        operation = self._fcntl.LOCK_EX | (0 if wait else self._fcntl.LOCK_NB)
        try:
            self._fcntl.lockf(self._file, operation, count, start)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise
        return True

    def unlock(self, start: int, count: int = 1) -> None:
        self._fcntl.lockf(self._file, self._fcntl.LOCK_UN, count, start)

    def lengthen(self) -> None:
        """Appends to the file, so that others see by its size that a process came."""
        os.write(self._file, b"\n")

    def size(self) -> int:
        return os.fstat(self._file).st_size

    def close(self) -> None:
        """Releases all locks."""
        os.close(self._file)
