"""Starts worker processes, and makes the folder in which they share data."""

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
from types import ModuleType
from typing import TYPE_CHECKING

from harness.core.files import try_lock
from harness.execution.executors.worker import work

if TYPE_CHECKING:
    from filelock import BaseFileLock

MEMORY = Path("/dev/shm")  # noqa: S108 - only a folder of our own in it is used
MIN_FREE_MEMORY = 1 << 30
"""Free bytes below which shared data goes to the temporary folder instead, as in containers."""
MAX_SHARE = 8
"""Shared data takes at most 1 / MAX_SHARE of the free bytes of its file system."""
YOUNG_SECONDS = 60.0
"""A folder younger than this may not be locked yet by the process that made it."""
_PREFIX, _LOCK = "harness-data-", "owner"
_NUMERICAL = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class SharedFolder:
    """A folder in which workers share prepared data, of at most `budget` bytes.

    lock: locked as long as this process lives.
    """

    path: Path
    budget: int
    lock: BaseFileLock | None

    @classmethod
    def make(cls) -> SharedFolder:
        """Makes a folder in memory if there is room, else among the temporary files.

        Removes first what processes left there that were killed together with their workers.
        """
        has_memory = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free >= MIN_FREE_MEMORY
        parent = MEMORY if has_memory else Path(tempfile.gettempdir())
        _remove_abandoned(parent)
        path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
        lock = try_lock(path / _LOCK)
        return cls(path, shutil.disk_usage(path).free // MAX_SHARE, lock)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        if self.lock is not None:
            self.lock.release()


def _remove_abandoned(parent: Path) -> None:
    """Removes the folders of shared data whose process has died."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):
            is_young = time.time() - folder.stat().st_mtime < YOUNG_SECONDS
            if not is_young and (folder / _LOCK).is_file():
                lock = try_lock(folder / _LOCK)
                if lock is not None:
                    lock.release()
                    shutil.rmtree(folder, ignore_errors=True)


def prepare(threads: int, imports: Sequence[str] = ()) -> None:
    """Starts to import what workers need, in the process from which they are forked.

    Does nothing on systems where workers are not forked. threads, imports: as for `start`.
    """
    if sys.platform == "linux":
        from multiprocessing import forkserver

        _context(imports)
        _socket_folder()
        with _threads_in_environment(threads), without_main():
            forkserver.ensure_running()


def start(
    threads: int, shared: SharedFolder, imports: Sequence[str] = ()
) -> tuple[BaseProcess, Connection]:
    """Starts a worker of `threads` torch threads. Returns its process and our end of its pipe.

    On Linux it is forked from a process that has imported everything once and has no threads, so
    that starting or replacing a worker takes milliseconds. Elsewhere it is a new process.

    imports: modules that its trials will import; those of the first worker are imported for all.
    """
    context = _context(imports)
    ours, theirs = context.Pipe()
    arguments = (theirs, threads, shared.path, shared.budget, _socket_folder())
    process = context.Process(  # type: ignore[attr-defined]
        target=work, args=arguments, daemon=False
    )
    with _threads_in_environment(threads), without_main():
        process.start()
    theirs.close()
    return process, ours


def _context(imports: Sequence[str]) -> BaseContext:
    linux = sys.platform == "linux"
    context = multiprocessing.get_context("forkserver" if linux else "spawn")
    context.set_forkserver_preload(["harness.execution.executors.preload", *imports])
    return context


@cache
def _socket_folder() -> Path:
    """The folder in which multiprocessing keeps this process's sockets.

    The folder that it would make itself stays behind when the process is killed; a shared folder is
    removed by the workers, or by the next process that makes one.
    """
    folder = SharedFolder.make()
    atexit.register(folder.remove)
    current = multiprocessing.process.current_process()
    current._config["tempdir"] = str(folder.path)  # type: ignore[attr-defined]
    return folder.path


@contextmanager
def without_main() -> Iterator[None]:
    """Lets children that start meanwhile not import the main module, from which they need nothing.

    A script without an `if __name__ == "__main__"` would start its sweep again in each of them.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _threads_in_environment(threads: int) -> Iterator[None]:
    """Sets the number of threads that numerical libraries read when a child loads them."""
    before = {name: os.environ[name] for name in _NUMERICAL if name in os.environ}
    os.environ.update(dict.fromkeys(_NUMERICAL, str(threads)))
    try:
        yield
    finally:
        for name in _NUMERICAL:
            del os.environ[name]
        os.environ.update(before)
