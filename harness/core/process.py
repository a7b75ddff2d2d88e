"""The running process: its interruption, its garbage collection, and the processor it runs on.

Ctrl-C and SIGTERM stop training at once, but never cut a write to the store.
"""

from __future__ import annotations

import gc
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, Final

INTERRUPTED: Final = 130
"""Exit code of a process that was interrupted."""
RARE_THRESHOLDS = (50_000, 20, 20)
"""Thresholds for `gc.set_threshold`; Python's own are 700, 10 and 10."""


class Interrupted(KeyboardInterrupt):
    """The user or the system asked the process to stop. Its text is the signal's name."""

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows in place of a traceback."""
        return [f"interrupted ({self}): run the same again to continue"]


class Stopped(Interrupted):
    """The process stops itself, as a signal would stop it. Its text says why, for the user."""


class Interrupts:
    """Handles SIGINT and SIGTERM while entered. In another thread than the main one it handles
    none: Python allows it there alone.

    The first signal raises Interrupted, or, within `deferred`, when that block ends. The second
    signal ends the process at once, unless the process is not ours to end (`owns_process`), as a
    notebook's: then it raises Interrupted too.

    Python drops an exception that is raised while the garbage collector runs a finalizer, and a
    signal may arrive just then. A long loop therefore calls `check` in every iteration.
    """

    def __init__(self, owns_process: bool = True) -> None:
        self._owns_process = owns_process
        self._previous_handlers: dict[int, Any] = {}
        self._deferring = False
        self._pending = False
        self._signalled = False
        self._reason: Interrupted | None = None
        self._request_stop: Callable[[], bool] | None = None

    def __enter__(self) -> Interrupts:
        is_main = threading.current_thread() is threading.main_thread()
        for number in (signal.SIGINT, signal.SIGTERM) if is_main else ():
            self._previous_handlers[number] = signal.signal(number, self._handle)
        self._previous_hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(self, *error: object) -> None:
        sys.unraisablehook = self._previous_hook
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if a signal was received, even if Python dropped the exception."""
        if self._reason is not None:
            raise self._reason

    def stop(self, reason: str) -> None:
        """Interrupts the process as a signal would: the `deferred` block that calls this ends with
        `Stopped`. One signal changes nothing from then on, and a second ends the process."""
        if self._reason is None:
            self._reason, self._pending = Stopped(reason), True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """The first signal does not interrupt this block: Interrupted is raised when it ends."""
        outer, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = outer
        if self._pending and not outer:
            self._pending = False
            self.check()

    @contextmanager
    def delegated(self, request_stop: Callable[[], bool]) -> Iterator[None]:
        """The first signal calls `request_stop`: does the block now end by itself?

        If so, Interrupted is raised when the block ends; otherwise it is raised at once.
        """
        self._request_stop = request_stop
        try:
            yield
        finally:
            self._request_stop = None
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._signalled and not self._owns_process:
            raise Interrupted(signal.Signals(number).name)
        if self._signalled:
            os._exit(INTERRUPTED)
        self._signalled = True
        if self._reason is not None:
            return  # The process stops itself already.
        self._reason = Interrupted(signal.Signals(number).name)
        if self._deferring:
            self._pending = True
        elif self._request_stop is None or not self._request_stop():
            raise self._reason

    def _unraisable(self, dropped: sys.UnraisableHookArgs) -> None:
        """Reports dropped exceptions, except Interrupted, which `check` raises again."""
        if not isinstance(dropped.exc_value, Interrupted):
            self._previous_hook(dropped)


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Collects cyclic garbage rarely in this block, and ignores the objects that existed before.

    A sweep creates records and rows by the hundred thousand, and none is part of a cycle. MLflow's
    import leaves half a million objects that each full collection would traverse. Do not use it in
    a process that trains: a cycle may hold a device's memory.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*RARE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


@cache
def cpu_model() -> str:
    """Returns the processor's model name, or its architecture where the system gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()
