"""The executor that trains in the calling process, one task after another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.core.records import Ended
from harness.execution.executors import base
from harness.execution.executors.base import Event, TrainingTask
from harness.execution.run_task import events


class InlineExecutor:
    """One slot, with all of torch's threads. Training goes on only while `next` is called."""

    slots = 1
    is_local = True
    description = "one at a time in this process"

    def __init__(self) -> None:
        self._events: Iterator[Event] = iter(())
        self._unfinished: set[str] = set()
        self._cancelled: set[str] = set()

    def prepare(self) -> None:
        """Nothing can be prepared beside this process."""

    def has_slot(self, device: str) -> bool:  # noqa: ARG002 - one slot for every device
        return not self._unfinished

    def submit(self, task: TrainingTask) -> None:
        self._unfinished, self._cancelled = set(task.trials), set()
        self._events = events(replace(task, exclusive=True), self._cancelled)

    def next(self, timeout: float | None = None) -> Event | None:  # noqa: ARG002 - never waits
        """Trains until the next record."""
        if not self._unfinished:
            return None
        event = next(self._events)
        if isinstance(event.record, Ended):
            self._unfinished.discard(event.key)
            if not self._unfinished:
                self.close()
        return event

    def cancel(self, key: str) -> None:
        if key in self._unfinished:
            self._cancelled.add(key)

    def request_stop(self) -> bool:
        return base.request_stop()

    def close(self) -> None:
        """Also frees the memory of what was trained last."""
        self._unfinished.clear()
        self._events = iter(())
