"""Shared by the tests of executors."""

from __future__ import annotations

from collections import deque

from harness.execution.executors.base import Event, Executor, TrainingTask


def drain(executor: Executor, *tasks: TrainingTask) -> list[Event]:
    """Submits each task once there is room for it, as the queue does. Returns all events until
    nothing trains."""
    found: list[Event] = []
    waiting = deque(tasks)
    while True:
        while waiting and executor.has_slot(waiting[0].trial.device):
            executor.submit(waiting.popleft())
        if (event := executor.next()) is None:
            return found
        found.append(event)
