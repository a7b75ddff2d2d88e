"""The executor that trains in the calling process, one task after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

from harness.core.records import Ended
from harness.execution.executors.base import Event, TrainingTask
from harness.execution.run_task import CANCELLED, events
from harness.execution.stopping import request_stop


class InlineExecutor:
    """One slot, with all of torch's threads. Training goes on only while `next` is called."""

    slots = 1
    is_local = True
    description = "one at a time in this process"

    def __init__(self) -> None:
        self._waiting: deque[TrainingTask] = deque()
        self._events: Iterator[Event] | None = None
        self._unfinished: set[str] = set()
        self._cancelled: set[str] = set()
        self._ready: deque[Event] = deque()

    def prepare(self) -> None:
        """Nothing can be prepared beside this process."""

    def has_slot(self, device: str) -> bool:  # noqa: ARG002 - one slot for every device
        return self._events is None and not self._waiting

    def submit(self, task: TrainingTask) -> None:
        self._waiting.append(replace(task, exclusive=True))

    def next(self, timeout: float | None = None) -> Event | None:  # noqa: ARG002 - never waits
        """Trains until the next record."""
        if self._ready:
            return self._ready.popleft()
        if self._events is None:
            if not self._waiting:
                return None
            task = self._waiting.popleft()
            self._cancelled = set()
            self._events = events(task, self._cancelled)
            self._unfinished = {key for key, _ in task.trials}
        event = next(self._events)
        if isinstance(event.record, Ended):
            self._unfinished.discard(event.key)
            if not self._unfinished:
                self._events = None
        return event

    def cancel(self, key: str) -> None:
        if self._events is not None and key in self._unfinished:
            self._cancelled.add(key)
        elif remove_waiting(self._waiting, key):
            self._ready.append(Event(key, CANCELLED))

    def request_stop(self) -> bool:
        return request_stop()

    def close(self) -> None:
        self._waiting.clear()
        self._ready.clear()
        self._unfinished.clear()
        self._events = None


def remove_waiting(tasks: deque[TrainingTask], key: str) -> bool:
    """Takes a trial out of the task that holds it. Returns whether there was one."""
    for index, task in enumerate(tasks):
        if key in dict(task.trials):
            if (rest := task.without(key)) is None:
                del tasks[index]
            else:
                tasks[index] = rest
            return True
    return False
