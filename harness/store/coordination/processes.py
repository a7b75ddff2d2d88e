"""Processes of this machine that write to a store: whether they are alive, and which write now."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from harness.core.files import SharedLock, try_lock


@cache
def process_tag() -> str:
    """Returns what identifies this process, as the value of `names.TAG_PROCESS`."""
    identity = {"host": _host(), "boot": _boot(), "pid": os.getpid(), "born": _start_time()}
    return json.dumps(identity)


def is_dead(tag: str) -> bool:
    """Returns whether the process of a `process_tag` is known to have ended.

    False for a process of another host, about which nothing is known here.
    """
    identity = _parse(tag)
    if identity is None or identity["host"] != _host():
        return False
    if identity["boot"] != _boot():
        return True
    pid = identity["pid"]
    return not psutil.pid_exists(pid) or _start_time(pid) != identity["born"]


def is_on_this_host(tag: str) -> bool:
    """Returns whether the process of a `process_tag` runs on this host, so that `is_dead` knows."""
    identity = _parse(tag)
    return identity is not None and identity["host"] == _host()


def describe(tag: str) -> str:
    """Returns "process 123 on HOST" for a `process_tag`, as people may look for it."""
    identity = _parse(tag)
    if identity is None:
        return "an unknown process"
    return f"process {identity['pid']} on {str(identity['host']).partition('/')[0]}"


class ActiveWriter:
    """Announces that this process writes an experiment, until `leave` or until the process ends.

    path: the experiment's `Store.writers_file`.
    """

    def __init__(self, path: Path) -> None:
        self._lock: SharedLock | None = None
        with suppress(ImportError, OSError):  # Without locks, every writer counts as alone.
            self._lock = SharedLock(path)

    def is_alone(self) -> bool:
        """Returns whether no other process writes the experiment; then none can until `leave`."""
        return self._lock is None or self._lock.make_exclusive()

    def leave(self) -> None:
        """Withdraws the announcement. May be called twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None


@contextmanager
def no_active_writers(folder: Path) -> Iterator[Callable[[], bool]]:
    """Keeps writers out of all experiments that have a file in `folder`, as long as it is open.

    Yields a function that returns whether no process writes there, nor has started to write a new
    experiment meanwhile. It returns False if nobody ever wrote there.
    """
    with ExitStack() as locks:
        files = sorted(folder.glob("*.writers"))
        locked = []
        with suppress(OSError):
            for path in files:
                lock = try_lock(path)
                if lock is None:
                    break
                locks.callback(lock.release)
                locked.append(path)
        yield lambda: files != [] and locked == files == sorted(folder.glob("*.writers"))


def _parse(tag: str) -> dict[str, Any] | None:
    """Returns the fields of a `process_tag`, or None if the text is no such tag."""
    try:
        fields = json.loads(tag)
        complete = {"host", "boot", "born"} <= set(fields)
        return {**fields, "pid": int(fields["pid"])} if complete else None
    except (ValueError, KeyError, TypeError, OverflowError):
        return None


def _host() -> str:
    """Returns the host and the container on it: a process number means something in one only."""
    try:
        return f"{platform.node()}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return platform.node()


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _start_time(pid: int | None = None) -> str:
    """Returns when a process started, by a clock that nobody sets; "" if it has ended."""
    pid = pid or os.getpid()
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
        return after_name.split()[19]  # Field 22 of proc(5): clock ticks since boot.
    except OSError:
        pass
    try:
        return str(int(psutil.Process(pid).create_time()))
    except psutil.Error:
        return ""
