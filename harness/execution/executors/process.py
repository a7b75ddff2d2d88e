"""The engine of worker processes: as many tasks at once as the machine's places have slots."""

from __future__ import annotations

import pickle
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from harness.core.records import Ended, Outcome, Started
from harness.core.text import plural
from harness.execution.checkpoint_folder import Position
from harness.execution.devices import DeviceSlots, SlotPool
from harness.execution.executors.base import Event, Task
from harness.execution.executors.worker import Cancel, send
from harness.execution.executors.worker_start import SharedFolder, prepare, start

GRACE_SECONDS = 0.5
"""How long a worker that was told to stop may take before it is killed."""
CHECKPOINT_SECONDS = 5.0
"""The same of one that trains a trial with checkpoints, and keeps one first."""


@dataclass(slots=True)
class _Worker:
    """A process and what it is at. task: None while it is idle. left: the keys of its trials that
    have not ended. position: of its latest checkpoint when the task began. repeated: by trial, the
    measurements still to come that were handed on before its worker died."""

    process: BaseProcess
    pipe: Connection
    place: DeviceSlots
    task: Task | None = None
    left: set[str] = field(default_factory=set)
    position: Position | None = None
    repeated: Counter[str] = field(default_factory=Counter)


class ProcessExecutor:
    """Workers that are started at the first task and kept, one for each slot of each place.

    A worker serves one place alone, and is replaced where it dies. Its task then goes on from its
    last checkpoint, where it has come further than when it was begun, and only what was not
    measured before is handed on; else it fails, alone, with the signal or status the worker died
    of. Workers share their prepared data in memory.
    """

    is_local = False

    def __init__(self, places: Sequence[DeviceSlots], imports: Sequence[str] = ()) -> None:
        """imports: modules that the trials will import, for workers to share."""
        self._all = tuple(places)
        self._imports = tuple(imports)
        self._places = SlotPool(places)
        self._idle: dict[DeviceSlots, list[_Worker]] = defaultdict(list)
        self._busy: dict[str, _Worker] = {}
        self._waiting: deque[Task] = deque()
        self._ready: deque[Event] = deque()
        self._measured: Counter[str] = Counter()
        self._shared: SharedFolder | None = None

    @classmethod
    def on_cpu(cls, workers: int, threads: int) -> ProcessExecutor:
        return cls([DeviceSlots("cpu", workers, threads)])

    @property
    def slots(self) -> int:
        return self._places.slots

    @property
    def description(self) -> str:
        return "; ".join(_described(place) for place in self._all)

    def prepare(self) -> None:
        prepare(self._all[0].threads, self._imports)

    def has_slot(self, device: str) -> bool:
        return not self._waiting and self._places.find(device) is not None

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
        """A trial in training stops once its worker has read that it shall."""
        for worker in self._busy.values():
            if key in worker.left:
                with suppress(BrokenPipeError, ConnectionResetError):  # `_collect` buries it.
                    send(worker.pipe, Cancel(key))
                return
        for place, task in enumerate(self._waiting):
            if key in dict(task.trials):
                left = task.without(key)
                self._ready.append(Event(key, Ended(Outcome.INTERRUPTED, {}, "cancelled")))
                if left is None:
                    del self._waiting[place]
                else:
                    self._waiting[place] = left
                return

    def request_stop(self) -> bool:
        return False

    def close(self) -> None:
        everyone = [*self._busy.values(), *(w for idle in self._idle.values() for w in idle)]
        for worker in self._busy.values():
            worker.process.terminate()
        for worker in everyone:
            worker.pipe.close()
        tasks = [worker.task for worker in self._busy.values()]
        keeps = any(task is not None and task.checkpoints is not None for task in tasks)
        deadline = time.monotonic() + (CHECKPOINT_SECONDS if keeps else GRACE_SECONDS)
        for worker in everyone:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.process.close()
        for worker in self._busy.values():
            self._places.release(worker.place)
        self._idle.clear()
        self._busy.clear()
        self._waiting.clear()
        self._ready.clear()
        self._measured.clear()
        if self._shared is not None:
            self._shared.remove()
            self._shared = None

    def _assign(self) -> None:
        """Start what fits, in its order; a task that waits for its device holds up no other."""
        if not self._waiting:
            return
        still: deque[Task] = deque()
        while self._waiting and len(self._busy) < self.slots:
            task = self._waiting.popleft()
            place = self._places.find(task.trial.device)
            if place is None:
                still.append(task)
            else:
                self._begin(task, place)
        self._waiting.extendleft(reversed(still))

    def _begin(self, task: Task, place: DeviceSlots) -> None:
        worker = self._take_idle(place) or self._start(place)
        suits = place in self._places.suiting(task.trial.device)
        worker.task = replace(
            task, device=place.device if suits else None, exclusive=place.slots == 1
        )
        worker.left = {key for key, _ in task.trials}
        worker.position = task.latest_position
        worker.repeated = Counter({key: self._measured[key] for key in worker.left})
        self._busy[task.key] = worker
        self._places.take(place)
        try:
            send(worker.pipe, worker.task)
        except (BrokenPipeError, ConnectionResetError):
            self._bury(worker)

    def _take_idle(self, place: DeviceSlots) -> _Worker | None:
        """A worker at rest that is still alive."""
        while self._idle[place]:
            worker = self._idle[place].pop()
            if worker.process.is_alive():
                return worker
            self._bury(worker)
        return None

    def _start(self, place: DeviceSlots) -> _Worker:
        if self._shared is None:
            self._shared = SharedFolder.make()
        process, pipe = start(place.threads, self._shared, self._imports)
        return _Worker(process, pipe, place)

    def _collect(self, timeout: float | None) -> None:
        """Take what the workers have sent, or bury those that died."""
        by_pipe = {worker.pipe: worker for worker in self._busy.values()}
        for pipe in connection.wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                events: list[Event] = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 - ours
            except (EOFError, ConnectionResetError, OSError):
                self._bury(worker)
                continue
            for event in events:
                self._take(worker, event)

    def _take(self, worker: _Worker, event: Event) -> None:
        if self._is_repeated(worker, event):
            return
        self._ready.append(event)
        if isinstance(event.record, Ended):
            worker.left.discard(event.key)
            if worker.task is not None and not worker.left:
                self._release(worker.task, worker)
                self._idle[worker.place].append(worker)

    def _is_repeated(self, worker: _Worker, event: Event) -> bool:
        """Whether it was handed on before. Keeps count of what a task has measured."""
        if isinstance(event.record, Ended):
            del self._measured[event.key]
        elif not isinstance(event.record, Started):
            if worker.repeated[event.key]:
                worker.repeated[event.key] -= 1
                return True
            self._measured[event.key] += 1
        return False

    def _release(self, task: Task, worker: _Worker) -> None:
        del self._busy[task.key]
        self._places.release(worker.place)
        worker.task = None

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
        self._release(task, worker)
        if task.latest_position != worker.position:
            self._waiting.appendleft(task.only(worker.left))
            self._assign()
            return
        for key in worker.left:
            del self._measured[key]
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        hint = "; out of memory, perhaps" if status == -9 else ""
        ended = Ended(Outcome.FAILED, {}, f"its worker process died {how}{hint}")
        self._ready.extend(Event(key, ended) for key, _ in task.trials if key in worker.left)


def _described(place: DeviceSlots) -> str:
    """ "2 workers, 1 thread each", "cuda:0: 1 worker, 8 threads"."""
    workers, threads = plural(place.slots, "worker"), plural(place.threads, "thread")
    where = "" if place.device == "cpu" else f"{place.device}: "
    return f"{where}{workers}, {threads} each"
