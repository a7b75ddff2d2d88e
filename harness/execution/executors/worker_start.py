"""Starting worker processes."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from harness.execution.executors.worker import work

MEMORY = Path("/dev/shm")  # noqa: S108 - only a folder of our own in it is used
LEAST_MEMORY = 1 << 30
"""Free bytes below which shared data goes to the temporary folder instead (containers)."""
SHARE = 8
"""Shared data takes at most an eighth of what is free where it lies."""
YOUNG_SECONDS = 60.0
_PREFIX, _MARK = "harness-data-", "owner"
_NUMERICAL = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """Where workers share prepared data. budget: bytes. mark: an open file, locked for as long as
    this process lives."""

    path: Path
    budget: int
    mark: int

    @classmethod
    def make(cls) -> SharedFolder:
        """A folder in memory where there is room, else among temporary files. Removes first what
        processes left there that were killed together with their workers."""
        memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= LEAST_MEMORY
        home = MEMORY if memory else Path(tempfile.gettempdir())
        for orphan in orphans(home):
            shutil.rmtree(orphan, ignore_errors=True)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=home))
        mark = os.open(path / _MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _lock(mark)
        return cls(path, shutil.disk_usage(path).free // SHARE, mark)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self.mark)


def orphans(home: Path) -> list[Path]:
    """Folders of shared data whose process is gone; a young one may not have its lock yet."""
    found = []
    for folder in home.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime < YOUNG_SECONDS:
                continue
            mark = os.open(folder / _MARK, os.O_RDWR | os.O_CLOEXEC)
            try:
                if _lock(mark):
                    found.append(folder)
            finally:
                os.close(mark)
    return found


def _lock(file: int) -> bool:
    """Whether the lock is ours; never where the system has none (Windows)."""
    try:
        import fcntl
    except ImportError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def prepare(threads: int, imports: Sequence[str] = ()) -> None:
    """Have what workers need be imported meanwhile, in the process they are forked from; nothing
    where there is none on this system. threads, imports: as for `start`."""
    if sys.platform == "linux":
        from multiprocessing import forkserver

        _context(imports)
        _scratch()
        with _threads_in_environment(threads):
            forkserver.ensure_running()


def start(
    threads: int, shared: SharedFolder, imports: Sequence[str] = ()
) -> tuple[BaseProcess, Connection]:
    """A worker of `threads` torch threads, and our end of its pipe.

    imports: modules that its trials will import; the first workers' are shared by all.

    On Linux it is forked from a process that has imported everything once and has no thread, so
    that many workers start, and are replaced, in no time; elsewhere it starts from nothing.
    """
    context = _context(imports)
    ours, theirs = context.Pipe()
    arguments = (theirs, threads, shared.path, shared.budget, _scratch())
    process = context.Process(  # type: ignore[attr-defined]
        target=work, args=arguments, daemon=False
    )
    with _threads_in_environment(threads):
        process.start()
    theirs.close()
    return process, ours


def _context(imports: Sequence[str]) -> BaseContext:
    linux = sys.platform == "linux"
    context = multiprocessing.get_context("forkserver" if linux else "spawn")
    context.set_forkserver_preload(["harness.execution.executors.preload", *imports])
    return context


@cache
def _scratch() -> Path:
    """Where multiprocessing keeps its sockets in this process. Of a process that is killed, its own
    choice would lie about for ever; a shared folder goes with the workers, or the next start."""
    folder = SharedFolder.make()
    atexit.register(folder.remove)
    current = multiprocessing.process.current_process()
    current._config["tempdir"] = str(folder.path)  # type: ignore[attr-defined]
    return folder.path


@contextmanager
def _threads_in_environment(threads: int) -> Iterator[None]:
    """Sets the thread count that numerical libraries read as they are loaded, for a child."""
    before = {name: os.environ.get(name) for name in _NUMERICAL}
    os.environ.update(dict.fromkeys(_NUMERICAL, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
