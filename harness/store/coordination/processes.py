"""Which process writes a run, so that a later one can tell whether it still lives."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil


@cache
def process_tag() -> str:
    """This process, as a tag's value."""
    return json.dumps({"host": _host(), "boot": _boot(), "pid": os.getpid(), "born": _born()})


def is_dead(tag: str) -> bool:
    """Whether the process of a `process_tag()` is dead for certain.

    False of another host's process, about which nothing can be known here.
    """
    told = _read(tag)
    if told is None or told["host"] != _host():
        return False
    if told["boot"] != _boot():
        return True
    pid = told["pid"]
    return not psutil.pid_exists(pid) or _born(pid) != told["born"]


def is_on_this_host(tag: str) -> bool:
    """Whether the process of a `process_tag()` runs on this host, so that `is_dead` knows."""
    told = _read(tag)
    return told is not None and told["host"] == _host()


def _read(tag: str) -> dict[str, Any] | None:
    """What an `process_tag()` tag tells; None where it is none."""
    try:
        told = json.loads(tag)
        return {**told, "pid": int(told["pid"])} if {"host", "boot", "born"} <= set(told) else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _host() -> str:
    """The host and the container on it: process numbers mean something in one container only."""
    try:
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _born(pid: int | None = None) -> str:
    """When a process began, by a clock that nobody sets; empty where it is gone."""
    pid = pid or os.getpid()
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        return after_name.split()[19]  # field 22 of proc(5): ticks since boot
    except OSError:
        pass
    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return ""


class ActiveWriter:
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
def no_active_writers(folder: Path) -> Iterator[Callable[[], bool]]:
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
