"""The engine that trains in the process that asks: one task after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from harness.dispatch.engine import Event, Task
from harness.dispatch.stacks import events
from harness.records import Ended, Outcome


class InlineEngine:
    """One slot, all of torch's threads. Nothing trains between two calls of `next`."""

    slots = 1
    is_local = True

    def __init__(self) -> None:
        self._waiting: deque[Task] = deque()
        self._running: tuple[Task, Iterator[Event]] | None = None
        self._left: set[str] = set()
        self._cancelled: deque[str] = deque()

    @property
    def description(self) -> str:
        return "one at a time in this process"

    def room(self, device: str) -> bool:  # noqa: ARG002 - one place for every device
        return self._running is None and not self._waiting

    def submit(self, task: Task) -> None:
        self._waiting.append(replace(task, exclusive=True))

    def next(self, timeout: float | None = None) -> Event | None:  # noqa: ARG002
        """Trains until the next record; `timeout` is no concern of an engine that never waits."""
        if self._cancelled:
            return Event(self._cancelled.popleft(), Ended(Outcome.INTERRUPTED, {}, "cancelled"))
        if self._running is None:
            if not self._waiting:
                return None
            task = self._waiting.popleft()
            self._running = (task, events(task))
            self._left = {key for key, _ in task.trials}
        event = next(self._running[1])
        if isinstance(event.record, Ended):
            self._left.discard(event.key)
            if not self._left:
                self._running = None
        return event

    def cancel(self, key: str) -> None:
        if self._running is not None and self._running[0].key == key:
            self._running = None
            self._cancelled.extend(sorted(self._left))
        elif any(task.key == key for task in self._waiting):
            (found,) = (task for task in self._waiting if task.key == key)
            self._waiting.remove(found)
            self._cancelled.extend(one for one, _ in found.trials)

    def close(self) -> None:
        self._waiting.clear()
        self._cancelled.clear()
        self._running = None
