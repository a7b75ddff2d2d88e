"""The executor of worker processes: one worker for each slot of each device."""

from __future__ import annotations

import pickle
import time
from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from harness.core.records import Ended, Outcome, Started
from harness.core.text import plural
from harness.execution.checkpoint_folder import Position
from harness.execution.devices import DeviceSlots, SlotPool
from harness.execution.executors.base import Event, TrainingTask
from harness.execution.executors.worker import send
from harness.execution.executors.worker_start import SharedFolder, prepare, start

GRACE_SECONDS = 0.5
"""How long a worker that was asked to stop may take before it is killed."""
CHECKPOINT_SECONDS = 5.0
"""The same for a worker that first writes a checkpoint."""


@dataclass(frozen=True, slots=True)
class _Worker:
    """A worker process, our end of its pipe, and the device that it serves."""

    process: BaseProcess
    pipe: Connection
    device: DeviceSlots


@dataclass(slots=True)
class _RunningTask:
    """A task and the worker that trains it.

    position: of the task's latest checkpoint when the worker received it. unfinished: the keys of
    its trials that have not ended. repeated: how many measurements of each trial are still to come
    that were handed on before an earlier worker died.
    """

    task: TrainingTask
    worker: _Worker
    position: Position | None
    unfinished: set[str]
    repeated: Counter[str]


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
        self._running: dict[Connection, _RunningTask] = {}
        self._ready: deque[Event] = deque()
        self._measured: Counter[str] = Counter()
        self._shared: SharedFolder | None = None

    @property
    def slots(self) -> int:
        return sum(device.count for device in self._devices)

    @property
    def description(self) -> str:
        """ "2 workers, 1 thread each", "cuda:0: 1 worker, 8 threads each"."""
        return "; ".join(
            ("" if device.device == "cpu" else f"{device.device}: ")
            + f"{plural(device.count, 'worker')}, {plural(device.threads, 'thread')} each"
            for device in self._devices
        )

    def prepare(self) -> None:
        prepare(self._devices[0].threads, self._imports)

    def has_slot(self, device: str) -> bool:
        return self._pool.find_free(device) is not None

    def submit(self, task: TrainingTask) -> None:
        device = self._pool.find_free(task.trial.device)
        if device is None:
            raise ValueError("no worker is free")
        self._start_task(task, device)

    def next(self, timeout: float | None = None) -> Event | None:
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._ready:
            if not self._running:
                return None
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                return None
            self._receive(remaining)
        return self._ready.popleft()

    def cancel(self, key: str) -> None:
        """A trial in training stops once its worker has read the message."""
        for running in self._running.values():
            if key in running.unfinished:
                with suppress(BrokenPipeError, ConnectionResetError):  # `_receive` will notice.
                    send(running.worker.pipe, key)

    def request_stop(self) -> bool:
        return False

    def close(self) -> None:
        busy = [running.worker for running in self._running.values()]
        workers = [*busy, *(worker for idle in self._idle.values() for worker in idle)]
        for worker in busy:
            worker.process.terminate()
        for worker in workers:
            worker.pipe.close()
        writes = any(running.task.checkpoints for running in self._running.values())
        deadline = time.monotonic() + (CHECKPOINT_SECONDS if writes else GRACE_SECONDS)
        for worker in workers:
            _end_process(worker.process, max(0.0, deadline - time.monotonic()))
        for worker in busy:
            self._pool.release(worker.device)
        self._idle.clear()
        self._running.clear()
        self._ready.clear()
        self._measured.clear()
        if self._shared is not None:
            self._shared.remove()
            self._shared = None

    def _start_task(self, task: TrainingTask, device: DeviceSlots) -> None:
        worker = self._idle_worker(device)
        if worker is None:
            self._shared = self._shared or SharedFolder.make()
            process, pipe = start(device.threads, self._shared, self._imports)
            worker = _Worker(process, pipe, device)
        matches = device in self._pool.matching(task.trial.device)
        task = replace(task, device=device.device if matches else None, exclusive=device.count == 1)
        repeated = Counter({key: self._measured[key] for key in task.trials})
        running = _RunningTask(task, worker, task.latest_position, set(task.trials), repeated)
        self._running[worker.pipe] = running
        self._pool.take(device)
        try:
            send(worker.pipe, task)
        except (BrokenPipeError, ConnectionResetError):
            self._handle_death(running)

    def _idle_worker(self, device: DeviceSlots) -> _Worker | None:
        while self._idle[device]:
            worker = self._idle[device].pop()
            if worker.process.is_alive():
                return worker
            worker.pipe.close()
            _end_process(worker.process, GRACE_SECONDS)
        return None

    def _receive(self, timeout: float | None) -> None:
        """Takes what the workers have sent, and handles the deaths of those that died."""
        for pipe in connection.wait(list(self._running), timeout):
            running = self._running[pipe]  # type: ignore[index]
            try:
                events: list[Event] = pickle.loads(running.worker.pipe.recv_bytes())  # noqa: S301 - ours
            except (EOFError, ConnectionResetError, OSError):
                self._handle_death(running)
                continue
            for event in events:
                self._take(running, event)

    def _take(self, running: _RunningTask, event: Event) -> None:
        """Hands an event on, unless it is a measurement that was handed on before."""
        key, record = event.key, event.record
        if isinstance(record, Ended):
            del self._measured[key]
            running.unfinished.discard(key)
        elif not isinstance(record, Started):
            if running.repeated[key]:
                running.repeated[key] -= 1
                return
            self._measured[key] += 1
        self._ready.append(event)
        if not running.unfinished:
            self._release(running.worker)
            self._idle[running.worker.device].append(running.worker)

    def _release(self, worker: _Worker) -> None:
        del self._running[worker.pipe]
        self._pool.release(worker.device)

    def _handle_death(self, running: _RunningTask) -> None:
        """A worker's pipe has closed: lets its task resume, or fails it."""
        task, worker = running.task, running.worker
        self._release(worker)
        worker.pipe.close()
        status = _end_process(worker.process, GRACE_SECONDS)
        if task.latest_position != running.position:
            self._start_task(task.only(running.unfinished), worker.device)
            return
        for key in running.unfinished:
            del self._measured[key]
        how = f"by signal {-status}" if status < 0 else f"with status {status}"
        hint = "; it may have run out of memory" if status == -9 else ""
        ended = Ended(Outcome.FAILED, {}, f"its worker process died {how}{hint}")
        self._ready.extend(Event(key, ended) for key in task.trials if key in running.unfinished)


def _end_process(process: BaseProcess, seconds: float) -> int:
    """Waits so long for a process, then kills it. Returns its exit status."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
    status = process.exitcode or 0
    process.close()
    return status
