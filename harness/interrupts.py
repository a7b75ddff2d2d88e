"""Ctrl-C and SIGTERM: stop training at once, but never in the middle of a write to the store."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from harness.cli import INTERRUPTED


class Interrupted(KeyboardInterrupt):
    """The user, or the system, asked the harness to stop."""


class Interrupts:
    """While entered, the first SIGINT or SIGTERM raises Interrupted, after any `deferred` block;
    the second ends the process at once. Only the main thread may enter."""

    def __init__(self) -> None:
        self._before: dict[int, Any] = {}
        self._deferring = False
        self._pending: str | None = None
        self._asked = False

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """A block that a first signal does not cut: Interrupted is raised when it is left."""
        outer, self._deferring = self._deferring, True
        try:
            yield
        finally:
            self._deferring = outer
        if self._pending is not None and not outer:
            name, self._pending = self._pending, None
            raise Interrupted(name)

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self._asked:
            os._exit(INTERRUPTED)
        self._asked = True
        name = signal.Signals(number).name
        if self._deferring:
            self._pending = name
        else:
            raise Interrupted(name)
