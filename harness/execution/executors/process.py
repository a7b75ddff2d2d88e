"""The executor of worker processes: one worker for each slot of each device."""

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
from harness.execution.executors.base import Event, TrainingTask
from harness.execution.executors.inline import remove_waiting
from harness.execution.executors.worker import Cancel, send
from harness.execution.executors.worker_start import SharedFolder, prepare, start
from harness.execution.run_task import CANCELLED

GRACE_SECONDS = 0.5
"""How long a worker that was asked to stop may take before it is killed."""
CHECKPOINT_SECONDS = 5.0
"""The same for a worker that first writes a checkpoint."""


@dataclass(slots=True)
class _Worker:
    """A worker process and what it trains.

    task: None while it is idle. unfinished: the keys of its trials that have not ended.
    position: of the task's latest checkpoint when the worker received it. repeated: how many
    measurements of each trial are still to come that were handed on before an earlier worker died.
    """

    process: BaseProcess
    pipe: Connection
    device: DeviceSlots
    task: TrainingTask | None = None
    unfinished: set[str] = field(default_factory=set)
    position: Position | None = None
    repeated: Counter[str] = field(default_factory=Counter)


class ProcessExecutor:
    """Starts a worker for each slot when the first task comes, and keeps it.

    A worker serves one device, and is replaced if it dies. Its task then resumes from its last
    checkpoint, if it has come further than when the worker received it, and only what was not
    measured before is handed on. Otherwise the task fails, alone, with the signal or exit status
    of the worker. Workers share prepared data in memory.

    imports: modules that the trials will import; they are imported once for all workers.
    """

    is_local = False

    def __init__(self, devices: Sequence[DeviceSlots], imports: Sequence[str] = ()) -> None:
        self._devices = tuple(devices)
        self._imports = tuple(imports)
        self._pool = SlotPool(devices)
        self._idle: dict[DeviceSlots, list[_Worker]] = defaultdict(list)
        self._busy: dict[str, _Worker] = {}
        self._waiting: deque[TrainingTask] = deque()
        self._ready: deque[Event] = deque()
        self._measured: Counter[str] = Counter()
        self._shared: SharedFolder | None = None

    @classmethod
    def on_cpu(cls, workers: int, threads: int) -> ProcessExecutor:
        return cls([DeviceSlots("cpu", workers, threads)])

    @property
    def slots(self) -> int:
        return self._pool.total

    @property
    def description(self) -> str:
        return "; ".join(_describe(device) for device in self._devices)

    def prepare(self) -> None:
        prepare(self._devices[0].threads, self._imports)

    def has_slot(self, device: str) -> bool:
        return not self._waiting and self._pool.find_free(device) is not None

    def submit(self, task: TrainingTask) -> None:
        self._waiting.append(task)
        self._start_waiting()

    def next(self, timeout: float | None = None) -> Event | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            if not self._busy:
                return None
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            self._receive(remaining)
        event = self._ready.popleft()
        self._start_waiting()
        return event

    def cancel(self, key: str) -> None:
        """A trial in training stops once its worker has read the message."""
        for worker in self._busy.values():
            if key in worker.unfinished:
                with suppress(BrokenPipeError, ConnectionResetError):  # `_receive` will notice.
                    send(worker.pipe, Cancel(key))
                return
        if remove_waiting(self._waiting, key):
            self._ready.append(Event(key, CANCELLED))

    def request_stop(self) -> bool:
        return False

    def close(self) -> None:
        workers = [*self._busy.values(), *(w for idle in self._idle.values() for w in idle)]
        for worker in self._busy.values():
            worker.process.terminate()
        for worker in workers:
            worker.pipe.close()
        tasks = [worker.task for worker in self._busy.values()]
        writes = any(task is not None and task.checkpoints is not None for task in tasks)
        deadline = time.monotonic() + (CHECKPOINT_SECONDS if writes else GRACE_SECONDS)
        for worker in workers:
            _end_process(worker.process, max(0.0, deadline - time.monotonic()))
        for worker in self._busy.values():
            self._pool.release(worker.device)
        self._idle.clear()
        self._busy.clear()
        self._waiting.clear()
        self._ready.clear()
        self._measured.clear()
        if self._shared is not None:
            self._shared.remove()
            self._shared = None

    def _start_waiting(self) -> None:
        """Starts the waiting tasks that have a free slot, in their order. A task that waits for its
        device holds up no other."""
        if not self._waiting:
            return
        still_waiting: deque[TrainingTask] = deque()
        while self._waiting and len(self._busy) < self.slots:
            task = self._waiting.popleft()
            device = self._pool.find_free(task.trial.device)
            if device is None:
                still_waiting.append(task)
            else:
                self._start_task(task, device)
        self._waiting.extendleft(reversed(still_waiting))

    def _start_task(self, task: TrainingTask, device: DeviceSlots) -> None:
        worker = self._idle_worker(device) or self._start_worker(device)
        matches = device in self._pool.matching(task.trial.device)
        worker.task = replace(
            task, device=device.device if matches else None, exclusive=device.count == 1
        )
        worker.unfinished = {key for key, _ in task.trials}
        worker.position = task.latest_position
        worker.repeated = Counter({key: self._measured[key] for key in worker.unfinished})
        self._busy[task.key] = worker
        self._pool.take(device)
        try:
            send(worker.pipe, worker.task)
        except (BrokenPipeError, ConnectionResetError):
            self._handle_death(worker)

    def _idle_worker(self, device: DeviceSlots) -> _Worker | None:
        while self._idle[device]:
            worker = self._idle[device].pop()
            if worker.process.is_alive():
                return worker
            self._handle_death(worker)
        return None

    def _start_worker(self, device: DeviceSlots) -> _Worker:
        if self._shared is None:
            self._shared = SharedFolder.make()
        process, pipe = start(device.threads, self._shared, self._imports)
        return _Worker(process, pipe, device)

    def _receive(self, timeout: float | None) -> None:
        """Takes what the workers have sent, and handles the deaths of those that died."""
        by_pipe = {worker.pipe: worker for worker in self._busy.values()}
        for pipe in connection.wait(list(by_pipe), timeout):
            worker = by_pipe[pipe]  # type: ignore[index]
            try:
                events: list[Event] = pickle.loads(worker.pipe.recv_bytes())  # noqa: S301 - ours
            except (EOFError, ConnectionResetError, OSError):
                self._handle_death(worker)
                continue
            for event in events:
                self._take(worker, event)

    def _take(self, worker: _Worker, event: Event) -> None:
        if self._is_repeated(worker, event):
            return
        self._ready.append(event)
        if isinstance(event.record, Ended):
            worker.unfinished.discard(event.key)
            if worker.task is not None and not worker.unfinished:
                self._release(worker.task, worker)
                self._idle[worker.device].append(worker)

    def _is_repeated(self, worker: _Worker, event: Event) -> bool:
        """Whether an event was handed on before. Counts the measurements of each trial."""
        if isinstance(event.record, Ended):
            del self._measured[event.key]
        elif not isinstance(event.record, Started):
            if worker.repeated[event.key]:
                worker.repeated[event.key] -= 1
                return True
            self._measured[event.key] += 1
        return False

    def _release(self, task: TrainingTask, worker: _Worker) -> None:
        del self._busy[task.key]
        self._pool.release(worker.device)
        worker.task = None

    def _handle_death(self, worker: _Worker) -> None:
        """A worker's pipe has closed: lets its task resume, or fails it."""
        task = worker.task
        worker.pipe.close()
        status = _end_process(worker.process, GRACE_SECONDS)
        if task is None:
            return
        self._release(task, worker)
        if task.latest_position != worker.position:
            self._waiting.appendleft(task.only(worker.unfinished))
            self._start_waiting()
            return
        for key in worker.unfinished:
            del self._measured[key]
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        hint = "; it may have run out of memory" if status == -9 else ""
        ended = Ended(Outcome.FAILED, {}, f"its worker process died {how}{hint}")
        self._ready.extend(Event(key, ended) for key, _ in task.trials if key in worker.unfinished)


def _end_process(process: BaseProcess, seconds: float) -> int:
    """Waits so long for a process, then kills it. Returns its exit status."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    status = process.exitcode or 0
    process.close()
    return status


def _describe(device: DeviceSlots) -> str:
    """ "2 workers, 1 thread each", "cuda:0: 1 worker, 8 threads each"."""
    workers, threads = plural(device.count, "worker"), plural(device.threads, "thread")
    where = "" if device.device == "cpu" else f"{device.device}: "
    return f"{where}{workers}, {threads} each"
