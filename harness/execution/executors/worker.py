"""A worker process: trains the tasks that come down its pipe, and sends their events up.

It shares no state, no lock and no thread with its parent.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import signal
import threading
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType

from harness.core.records import Ended, Measured, Started
from harness.execution.executors.base import (
    TOLD_TO_STOP,
    Event,
    TrainingTask,
    request_stop,
    stop_requested,
)

PARENT_DIED = 3
"""Exit status of a worker whose parent has died."""
CLOSING_SECONDS = 0.5
"""How long a worker whose pipe was closed waits to see whether its parent has died: a process that
is killed closes its pipes one after another."""
STOPPED = 4
"""Exit status of a worker that was asked to stop."""


Message = TrainingTask | str
"""What the parent sends: a task, or the id of a trial that is no longer wanted."""


def send(pipe: Connection, content: list[Event] | Message) -> None:
    """Sends by value. multiprocessing's own pickler would pass tensors as handles into the memory
    of a process that may be dead when they are read."""
    pipe.send_bytes(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))


@dataclass(slots=True)
class EventBuffer:
    """Events on their way to the parent.

    Those of a stack's epoch are sent together: one by one they cost more than the training of a
    small stack. unfinished: the ids of the task's trials that have not ended.
    """

    pipe: Connection
    unfinished: set[str]
    _events: list[Event] = field(default_factory=list)
    _stacked: set[str] = field(default_factory=set)
    _measured: int = 0

    def put(self, event: Event) -> None:
        record = event.record
        self._events.append(event)
        is_large = False
        if isinstance(record, Started) and "fused" in record.metadata:
            self._stacked.add(event.key)
        elif isinstance(record, Measured):
            self._measured += 1
        elif isinstance(record, Ended):
            self.unfinished.remove(event.key)
            # Weights and outputs of many trials at once would fill the memory.
            is_large = record.test_outputs is not None
        is_epoch_over = self._measured >= len(self.unfinished)
        if is_large or is_epoch_over or event.key not in self._stacked:
            send(self.pipe, self._events)
            self._events, self._measured = [], 0


def work(pipe: Connection, threads: int, shared: Path, budget: int, sockets: Path) -> None:
    """Trains what comes down the pipe until it closes.

    threads: of torch, in this process. shared: the folder of data that workers share, of at most
    `budget` bytes. sockets: the parent's folder of sockets. This process removes both folders if
    the parent is killed.
    """
    # Ctrl-C goes to every process of a terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    threading.Thread(target=_exit_with_parent, args=(shared, sockets), daemon=True).start()
    import torch

    from harness.training import shared_data

    torch.set_num_threads(threads)
    shared_data.use_cache(shared_data.SharedCache(shared, budget))
    try:
        while True:
            message = _receive(pipe)
            if isinstance(message, TrainingTask):  # Else the trial has ended in the meantime.
                _train(pipe, message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        _exit_with_parent(shared, sockets, seconds=CLOSING_SECONDS)


def _train(pipe: Connection, task: TrainingTask) -> None:
    from harness.execution.run_task import events

    cancelled: set[str] = set()
    buffer = EventBuffer(pipe, set(task.trials))
    for event in events(task, cancelled):
        if event.record is TOLD_TO_STOP:
            os._exit(STOPPED)
        buffer.put(event)
        while buffer.unfinished and pipe.poll():
            try:
                message = _receive(pipe)
            except EOFError:
                if not stop_requested():
                    raise
                break  # The parent that asked to stop closed its pipe, and waits for a checkpoint.
            if isinstance(message, str):
                cancelled.add(message)


def _receive(pipe: Connection) -> Message:
    message: Message = pickle.loads(pipe.recv_bytes())  # noqa: S301 - a pipe to our own parent
    return message


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """SIGTERM: exits, after a checkpoint if one can be written soon."""
    if not request_stop():
        os._exit(STOPPED)


def _exit_with_parent(*folders: Path, seconds: float | None = None) -> None:
    """Exits when the parent dies, after removing its folders: a killed parent sends no message, and
    the worker would train on for nobody.

    seconds: exit after so long even if the parent lives; its folders then stay.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join(seconds)
        if not parent.is_alive():
            for folder in folders:
                shutil.rmtree(folder, ignore_errors=True)
        os._exit(PARENT_DIED)
