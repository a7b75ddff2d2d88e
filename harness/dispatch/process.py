"""The engine of worker processes: as many tasks at once as there are workers."""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from dataclasses import dataclass, field
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from harness.dispatch.engine import Event, Task
from harness.dispatch.worker import Cancel, send, work
from harness.records import Ended, Outcome

GRACE_SECONDS = 0.5
"""How long a worker that was told to stop may take before it is killed."""


@dataclass(slots=True)
class _Worker:
    """A process and what it is at. task: None while it is idle."""

    process: SpawnProcess
    pipe: Connection
    task: Task | None = None


@dataclass(slots=True)
class ProcessEngine:
    """`workers` processes of `threads` torch threads each, started at the first task and kept.

    A worker that dies fails its task alone, with the signal or status it died of, and is replaced.
    """

    workers: int
    threads: int
    _idle: list[_Worker] = field(default_factory=list)
    _busy: dict[str, _Worker] = field(default_factory=dict)
    _waiting: deque[Task] = field(default_factory=deque)
    _ready: deque[Event] = field(default_factory=deque)

    @property
    def slots(self) -> int:
        return self.workers

    @property
    def is_local(self) -> bool:
        return False

    @property
    def description(self) -> str:
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''} each"
        return f"{self.workers} worker{'s' if self.workers > 1 else ''}, {threads}"

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        self._assign()

    def next(self, timeout: float | None = None) -> Event | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            if not self._busy:
                return None
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return None
            self._collect(left)
        event = self._ready.popleft()
        self._assign()
        return event

    def cancel(self, key: str) -> None:
        """A task in training stops at its next record."""
        if key in self._busy:
            send(self._busy[key].pipe, Cancel(key))
        elif any(task.key == key for task in self._waiting):
            self._waiting = deque(task for task in self._waiting if task.key != key)
            self._ready.append(Event(key, Ended(Outcome.INTERRUPTED, {}, "cancelled")))

    def close(self) -> None:
        everyone = [*self._idle, *self._busy.values()]
        for worker in self._busy.values():
            worker.process.terminate()
        for worker in everyone:
            worker.pipe.close()
        deadline = time.monotonic() + GRACE_SECONDS
        for worker in everyone:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        self._idle.clear()
        self._busy.clear()
        self._waiting.clear()
        self._ready.clear()

    def _assign(self) -> None:
        while self._waiting and len(self._busy) < self.workers:
            task = self._waiting.popleft()
            worker = self._take_idle() or self._start()
            worker.task = task
            self._busy[task.key] = worker
            try:
                send(worker.pipe, task)
            except (BrokenPipeError, ConnectionResetError):
                self._bury(worker)

    def _take_idle(self) -> _Worker | None:
        """A worker at rest that is still alive."""
        while self._idle:
            worker = self._idle.pop()
            if worker.process.is_alive():
                return worker
            self._bury(worker)
        return None

    def _start(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, self.threads), daemon=False)
        with _threads_in_environment(self.threads):
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _collect(self, timeout: float | None) -> None:
        """Take what the workers have sent, or bury those that died."""
        by_pipe = {worker.pipe: worker for worker in self._busy.values()}
        for pipe in connection.wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                event: Event = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 - our own worker
            except (EOFError, ConnectionResetError, OSError):
                self._bury(worker)
                continue
            self._ready.append(event)
            if isinstance(event.record, Ended):
                del self._busy[event.key]
                worker.task = None
                self._idle.append(worker)

    def _bury(self, worker: _Worker) -> None:
        """A worker's pipe has closed: it is dead, or as good as dead."""
        task = worker.task
        worker.pipe.close()
        worker.process.join(GRACE_SECONDS)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()
        status = worker.process.exitcode or 0
        worker.process.close()
        if task is None:
            return
        del self._busy[task.key]
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        hint = "; out of memory, perhaps" if status == -9 else ""
        self._ready.append(
            Event(task.key, Ended(Outcome.FAILED, {}, f"its worker process died {how}{hint}"))
        )


class _threads_in_environment:  # noqa: N801 - used as a function
    """Sets the thread count that numerical libraries read as they are loaded, for a child."""

    NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

    def __init__(self, threads: int) -> None:
        self._threads = str(threads)
        self._before: dict[str, str | None] = {}

    def __enter__(self) -> None:
        self._before = {name: os.environ.get(name) for name in self.NAMES}
        os.environ.update(dict.fromkeys(self.NAMES, self._threads))

    def __exit__(self, *error: object) -> None:
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
