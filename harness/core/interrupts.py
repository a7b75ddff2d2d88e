"""Ctrl-C and SIGTERM: training stops at once, but a write to the store is never cut."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

INTERRUPTED: Final = 130
"""Exit code of a process that was interrupted."""


class Interrupted(KeyboardInterrupt):
    """The user or the system asked the process to stop. Its text is the signal's name."""


class Interrupts:
    """Handles SIGINT and SIGTERM while entered, in the main thread only.

    The first signal raises Interrupted, or, within `deferred`, when that block ends. The second
    signal ends the process at once.

    Python drops an exception that is raised while the garbage collector runs a finalizer, and a
    signal may arrive just then. A long loop therefore calls `check` in every iteration.
    """

    def __init__(self) -> None:
        self._previous_handlers: dict[int, Any] = {}
        self._deferring = False
        self._pending = False
        self._received: str | None = None
        self._request_stop: Callable[[], bool] | None = None

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous_handlers[number] = signal.signal(number, self._handle)
        self._previous_hook = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.unraisablehook = self._previous_hook
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raises Interrupted if a signal was received, even if Python dropped the exception."""
        if self._received is not None:
            raise Interrupted(self._received)

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
        if self._received is not None:
            os._exit(INTERRUPTED)
        self._received = signal.Signals(number).name
        if self._deferring:
            self._pending = True
        elif self._request_stop is None or not self._request_stop():
            raise Interrupted(self._received)

    def _unraisable(self, dropped: sys.UnraisableHookArgs) -> None:
        """Reports dropped exceptions, except Interrupted, which `check` raises again."""
        if not isinstance(dropped.exc_value, Interrupted):
            self._previous_hook(dropped)
