"""A worker process: trains the tasks that come down its pipe and sends their records up.

Started by spawning, so that it shares no state, no lock and no thread with its parent.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from harness.dispatch.engine import Event, Task
from harness.records import Ended, Outcome

PARENT_DIED = 3
"""Exit status of a worker that found itself alone."""


@dataclass(frozen=True, slots=True)
class Cancel:
    """The parent no longer wants the task with this key."""

    key: str


Order = Task | Cancel | None
"""What the parent sends; None ends the worker."""


def send(pipe: Connection, content: Event | Order) -> None:
    """By value: multiprocessing's own pickler would pass tensors as handles into the memory of a
    process that may be dead when they are read."""
    pipe.send_bytes(pickle.dumps(content, protocol=pickle.HIGHEST_PROTOCOL))


def work(pipe: Connection, threads: int) -> None:
    """Serve the pipe until it says None or closes. threads: for torch, in this process."""
    # Ctrl-C goes to every process of a terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    try:
        while isinstance(order := _receive(pipe), Task | Cancel):
            if isinstance(order, Task):
                _train(pipe, order)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(PARENT_DIED)


def _train(pipe: Connection, task: Task) -> None:
    from harness.dispatch.runner import run

    for record in run(task):
        send(pipe, Event(task.key, record))
        while not isinstance(record, Ended) and pipe.poll():
            order = _receive(pipe)
            if order is None or (isinstance(order, Cancel) and order.key == task.key):
                send(pipe, Event(task.key, Ended(Outcome.INTERRUPTED, {}, "cancelled")))
                return


def _receive(pipe: Connection) -> Order:
    order: Order = pickle.loads(pipe.recv_bytes())  # noqa: S301 - a pipe to our own parent
    return order


def _leave_with_parent() -> None:
    """A killed parent cannot say goodbye; a worker in mid-epoch would go on for nobody."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(PARENT_DIED)
