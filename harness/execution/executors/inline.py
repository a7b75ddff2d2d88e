"""The engine that trains in the process that asks: one task after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from harness.core.records import Ended
from harness.execution.executors.base import Event, Task
from harness.execution.run_stack import CANCELLED, events
from harness.execution.stopping import request_stop


class InlineExecutor:
    """One slot, all of torch's threads. Nothing trains between two calls of `next`."""

    slots = 1
    is_local = True

    def __init__(self) -> None:
        self._waiting: deque[Task] = deque()
        self._running: tuple[Task, Iterator[Event]] | None = None
        self._left: set[str] = set()
        self._cancelled: set[str] = set()
        self._ready: deque[Event] = deque()

    @property
    def description(self) -> str:
        return "one at a time in this process"

    def prepare(self) -> None:
        """Nothing goes on beside this process."""

    def has_slot(self, device: str) -> bool:  # noqa: ARG002 - one place for every device
        return self._running is None and not self._waiting

    def submit(self, task: Task) -> None:
        self._waiting.append(replace(task, exclusive=True))

    def next(self, timeout: float | None = None) -> Event | None:  # noqa: ARG002
        """Trains until the next record; `timeout` is no concern of an engine that never waits."""
        if self._ready:
            return self._ready.popleft()
        if self._running is None:
            if not self._waiting:
                return None
            task = self._waiting.popleft()
            self._cancelled = set()
            self._running = (task, events(task, self._cancelled))
            self._left = {key for key, _ in task.trials}
        event = next(self._running[1])
        if isinstance(event.record, Ended):
            self._left.discard(event.key)
            if not self._left:
                self._running = None
        return event

    def cancel(self, key: str) -> None:
        if self._running is not None and key in self._left:
            self._cancelled.add(key)
            return
        for place, task in enumerate(self._waiting):
            if key in dict(task.trials):
                left = task.without(key)
                self._ready.append(Event(key, CANCELLED))
                if left is None:
                    del self._waiting[place]
                else:
                    self._waiting[place] = left
                return

    def request_stop(self) -> bool:
        return request_stop()

    def close(self) -> None:
        self._waiting.clear()
        self._ready.clear()
        self._left.clear()
        self._running = None
