"""Ctrl-C and SIGTERM: stop training at once, but never in the middle of a write to the store."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Final

INTERRUPTED: Final = 130
"""The exit code of a process that the user, or the system, asked to stop."""


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked the harness to stop."""


class Interrupts:
    """While entered, the first SIGINT or SIGTERM raises Interrupted, after any `deferred` block;
    the second ends the process at once. Only the main thread may enter.

    Python drops what is raised while the garbage collector calls a finaliser, and a signal may come
    just then: a loop that runs for long calls `check` in every round.
    """

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._deferring = False
        self._pending = False
        self._asked: str | None = None
        self._stop_soon: Callable[[], bool] | None = None

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        self._report_unraisable = sys.unraisablehook
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        sys.unraisablehook = self._report_unraisable
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self) -> None:
        """Raise Interrupted where a signal came and what it raised was dropped on the way."""
        if self._asked is not None:
            raise Interrupted(self._asked)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that a first signal does not cut: Interrupted is raised when it is left."""
        outer, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = outer
        if self._pending and not outer:
            self._pending = False
            self.check()

    @contextmanager
    def asking(self, stop_soon: Callable[[], bool]) -> Iterator[None]:
        """A block that a first signal does not cut where `stop_soon`, called then, says that it
        will end by itself: Interrupted is raised when it is left."""
        self._stop_soon = stop_soon
        try:
            yield
        finally:
            self._stop_soon = None
        self.check()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._asked is not None:
            os._exit(INTERRUPTED)
        self._asked = signal.Signals(number).name
        if self._deferring:
            self._pending = True
        elif self._stop_soon is None or not self._stop_soon():
            raise Interrupted(self._asked)

    def _unraisable(self, dropped: sys.UnraisableHookArgs) -> None:
        """An Interrupted that Python drops is no error to show: `check` raises it again."""
        if not isinstance(dropped.exc_value, Interrupted):
            self._report_unraisable(dropped)
