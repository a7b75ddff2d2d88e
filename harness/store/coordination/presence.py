"""Who else writes an experiment from this store's folder: by locks that go with their process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Presence:
    """This writer, for the others to see until `leave`, or until its process is gone."""

    def __init__(self, path: Path) -> None:
        self._file = _locked(path, shared=True)

    def is_alone(self) -> bool:
        """Whether nobody else is there; then nobody comes until `leave`. True where the system has
        no such locks."""
        return self._file is None or _take(self._file)

    def leave(self) -> None:
        """May be called twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@contextmanager
def alone(folder: Path) -> Iterator[Callable[[], bool]]:
    """Keeps out whoever comes to write an experiment that has a file in `folder` already.

    Yields what tells whether nobody writes there, nor has come to write a new experiment since.
    Never where nobody ever did, or the system has no such locks.
    """
    held: dict[Path, int] = {}
    try:
        paths = _writers(folder)
        for path in paths:
            file = _locked(path, shared=False, waits=False)
            if file is None:
                break
            held[path] = file
        yield lambda: bool(held) and held.keys() == paths == _writers(folder)
    finally:
        for file in held.values():
            os.close(file)


def _writers(folder: Path) -> set[Path]:
    return set(folder.glob("*.writers"))


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """One process at a time, as far as the system has locks."""
    file = _locked(path, shared=False)
    try:
        yield
    finally:
        if file is not None:
            os.close(file)


def _locked(path: Path, shared: bool, waits: bool = True) -> int | None:
    with suppress(ImportError, OSError):
        import fcntl

        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(file, kind if waits else kind | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            raise
        return file
    return None


def _take(file: int) -> bool:
    """Make a shared lock one's own, which only works where nobody shares it."""
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
