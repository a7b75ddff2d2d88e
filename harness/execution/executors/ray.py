"""The engine of a Ray cluster: tasks on whatever nodes it has, records streamed to this process.

Every node needs this package and its dependencies installed, at the same versions; data sets it
does not need: they come through Ray's object store.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from harness.core.errors import InputError
from harness.core.records import Ended, Outcome, Record, Started
from harness.core.text import plural
from harness.execution.devices import GPU_KINDS
from harness.execution.executors.base import Event, Task

if TYPE_CHECKING:
    from harness.components.base import RawData

TRIES = 3
"""How often a task is begun whose node or process dies; what it measured stays as it was."""


@dataclass(slots=True)
class _Running:
    """A task in the cluster. stream: of its records' references. seen: measurements handed on."""

    task: Task
    stream: Any
    gpu: bool
    tries: int = 1
    seen: int = 0
    skip: int = 0


class RayExecutor:
    """Tasks of `threads` cores each, or of a `1/slots` share of a GPU.

    address: of a running cluster; None starts one on this machine that listens on 127.0.0.1 and
    ends with the engine. limit: tasks at once at most. A task whose node dies begins again
    elsewhere, and only its records not seen yet are handed on. A task is marked exclusive only
    where Ray grants it a whole GPU, or all cores of a cluster of the engine's own. Raises
    InputError where Ray is not installed or no cluster answers.
    """

    is_local = False

    def __init__(
        self,
        address: str | None = None,
        threads: int = 1,
        slots: int = 1,
        limit: int | None = None,
    ) -> None:
        self._ray = _ray(alone=address is None)
        self._owns = not self._ray.is_initialized()
        if self._owns:
            _connect(self._ray, address)
        self._threads, self._share = threads, 1 / slots
        resources = self._ray.cluster_resources()
        self._of_cpu = int(resources.get("CPU", 0)) // threads
        self._of_gpu = int(resources.get("GPU", 0)) * slots
        self._limit = limit or self._of_cpu + self._of_gpu
        # All cores, for one task at a time; None where several train there, or others may.
        alone = self._owns and address is None and min(self._limit, self._of_cpu) == 1
        self._whole = int(resources["CPU"]) if alone else None
        self._nodes = len(self._alive())
        self._remote = self._ray.remote(_records)
        self._data: dict[str, Any] = {}
        self._running: dict[str, _Running] = {}
        self._ready: deque[Event] = deque()

    @property
    def slots(self) -> int:
        return max(1, min(self._limit, self._of_cpu + self._of_gpu))

    @property
    def description(self) -> str:
        nodes, trials = plural(self._nodes, "node"), plural(self.slots, "trial")
        return f"Ray, {nodes}, {trials} at once, {self._threads} thread each"

    def prepare(self) -> None:
        """Nothing is begun before the first task."""

    def has_slot(self, device: str) -> bool:
        if len(self._running) >= self.slots:
            return False
        gpu = self._wants_gpu(device)
        of_kind = sum(running.gpu == gpu for running in self._running.values())
        return of_kind < (self._of_gpu if gpu else max(1, self._of_cpu))

    def submit(self, task: Task) -> None:
        gpu = self._wants_gpu(task.trial.device)
        placed = replace(task, exclusive=self._is_alone(gpu))
        if gpu:
            placed = replace(placed, device="cuda:0")  # Ray shows a task its own alone.
        self._running[task.key] = _Running(placed, self._begin(placed, gpu), gpu)

    def next(self, timeout: float | None = None) -> Event | None:
        while not self._ready:
            if not self._running:
                return None
            by_stream = {id(running.stream): running for running in self._running.values()}
            streams = [running.stream for running in self._running.values()]
            found, _ = self._ray.wait(streams, num_returns=1, timeout=timeout, fetch_local=False)
            if not found:
                return None
            self._take(by_stream[id(found[0])])
        return self._ready.popleft()

    def cancel(self, key: str) -> None:
        if key in self._running:
            self._ray.cancel(self._running.pop(key).stream, force=True)
            self._ready.append(Event(key, Ended(Outcome.INTERRUPTED, {}, "cancelled")))

    def request_stop(self) -> bool:
        return False

    def close(self) -> None:
        if not self._ray.is_initialized():
            return
        for running in self._running.values():
            self._ray.cancel(running.stream, force=True)
        self._running.clear()
        self._ready.clear()
        self._data.clear()
        if self._owns:
            self._ray.shutdown()

    def _wants_gpu(self, device: str) -> bool:
        kind = device.partition(":")[0]
        return kind in GPU_KINDS or (kind == "auto" and self._of_gpu > 0)

    def _is_alone(self, gpu: bool) -> bool:
        """Whether what a task asks for keeps every other off its device. Nodes that share a
        machine may each hand out the same GPU."""
        if not gpu:
            return self._whole is not None
        hosts = [node["NodeManagerAddress"] for node in self._alive() if "GPU" in node["Resources"]]
        return self._share == 1 and 0 < len(hosts) == len(set(hosts))

    def _alive(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _begin(self, task: Task, gpu: bool) -> Any:
        options = {
            "num_cpus": 1 if gpu else self._whole or self._threads,
            "num_gpus": self._share if gpu and self._of_gpu else 0,
            "max_retries": 0,
            "num_returns": "streaming",
        }
        return self._remote.options(**options).remote(task, self._threads, *self._shared(task))

    def _shared(self, task: Task) -> tuple[str, Any]:
        """The task's data set, once in the object store, and the key that stands for it."""
        from harness.training.data import dataset_key, is_in_memory, load_dataset

        key = dataset_key(task.trial.dataset, task.data_root)
        if key not in self._data:
            raw: RawData | None = None
            with suppress(Exception):  # The task meets it too, and tells it.
                raw = load_dataset(task.trial, task.data_root)
            keep = raw is not None and is_in_memory(raw)
            self._data[key] = self._ray.put(raw if keep else None)
        return key, self._data[key]

    def _take(self, running: _Running) -> None:
        """The next record of a task, or another try where its process or node has died."""
        try:
            record: Record = self._ray.get(next(running.stream))
        except StopIteration:
            self._again(running, "it ended without an outcome")
            return
        except self._ray.exceptions.RayTaskError as error:
            self._end(running, f"it could not run there: {error.cause!r}")
            return
        except self._ray.exceptions.RayError as error:
            self._again(running, type(error).__name__)
            return
        if not isinstance(record, (Started, Ended)):  # A second start says that it was resumed.
            if running.skip:
                running.skip -= 1
                return
            running.seen += 1
        self._ready.append(Event(running.task.key, record))
        if isinstance(record, Ended):
            del self._running[running.task.key]

    def _again(self, running: _Running, why: str) -> None:
        if running.tries >= TRIES:
            self._end(running, f"its process or node died {TRIES} times ({why})")
            return
        running.tries += 1
        running.skip = running.seen
        running.stream = self._begin(running.task, running.gpu)

    def _end(self, running: _Running, reason: str) -> None:
        del self._running[running.task.key]
        self._ready.append(Event(running.task.key, Ended(Outcome.FAILED, {}, reason)))


def _records(task: Task, threads: int, key: str, raw: RawData | None) -> Iterator[Record]:
    """A task's records, on its node. raw: its data set, None to be read there."""
    import torch

    from harness.execution.run_task import run
    from harness.training import shared_data as shelf

    torch.set_num_threads(threads)
    shelf.use_cache(None if raw is None else shelf.PreloadedData({key: raw}))
    yield from run(task)


def _ray(alone: bool) -> Any:
    """Ray's module, without its statistics. alone: for a cluster on this machine only."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tasks that ask for no GPU need not have them hidden.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if alone:
        # What keeps Ray to 127.0.0.1 where firewalls ask about every port; it serves here too.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--executor ray needs Ray, which is not installed: pip install 'harness[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Join a cluster, or start one that nobody else can reach."""
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is not None:
            ray.init(address=address, **quiet)
        else:
            from harness.execution.executors.choose import cores

            ray.init(address="local", num_cpus=cores(), include_dashboard=False, **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at {address or 'this machine'}: {error}") from None
