"""The executor of a Ray cluster: tasks train on its nodes, and records stream to this process.

Every node needs this package and its dependencies at the same versions. It needs no data sets: they
come through Ray's object store.
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
from harness.execution.devices import GPU_KINDS, available_cores
from harness.execution.executors.base import CANCELLED, Event, TrainingTask
from harness.experiment.trial import is_absent

if TYPE_CHECKING:
    from harness.components.base import RawData

MAX_ATTEMPTS = 3
"""How often a task is started whose node or process dies."""


@dataclass(slots=True)
class _RayTask:
    """A task in the cluster.

    stream: yields references to its records. seen: how many measurements were handed on.
    skip: how many are still to come that an earlier attempt handed on.
    """

    task: TrainingTask
    stream: Any
    on_gpu: bool
    attempts: int = 1
    seen: int = 0
    skip: int = 0


class RayExecutor:
    """Trains tasks with one core each, or on a `1/slots` share of a GPU.

    A task whose node dies starts again elsewhere, and only the records that were not seen yet are
    handed on. A task is marked exclusive only if Ray grants it a whole GPU, or all cores of a
    cluster that this executor started.

    address: of a running cluster; None starts one on this machine that listens on 127.0.0.1 and
    ends with the executor. limit: the maximum number of tasks at once.
    Raises InputError if Ray is not installed or no cluster answers.
    """

    is_local = False

    def __init__(
        self,
        address: str | None = None,
        slots: int = 1,
        limit: int | None = None,
    ) -> None:
        self._ray = _import_ray(is_local=address is None)
        self._owns_cluster = not self._ray.is_initialized()
        if self._owns_cluster:
            _connect(self._ray, address)
        self._gpu_share = 1 / slots
        resources = self._ray.cluster_resources()
        self._cpu_slots = int(resources.get("CPU", 0))
        self._gpu_slots = int(resources.get("GPU", 0)) * slots
        self._limit = limit or self._cpu_slots + self._gpu_slots
        # All cores, for one task at a time; None if several train there, or others may.
        is_own = self._owns_cluster and address is None
        is_alone = is_own and min(self._limit, self._cpu_slots) == 1
        self._all_cores = int(resources["CPU"]) if is_alone else None
        self._nodes = len(self._live_nodes())
        self._remote = self._ray.remote(_records)
        self._datasets: dict[str, Any] = {}
        self._running: dict[str, _RayTask] = {}
        self._ready: deque[Event] = deque()

    @property
    def slots(self) -> int:
        return max(1, min(self._limit, self._cpu_slots + self._gpu_slots))

    @property
    def description(self) -> str:
        nodes, trials = plural(self._nodes, "node"), plural(self.slots, "trial")
        return f"Ray, {nodes}, {trials} at once, 1 thread each"

    def prepare(self) -> None:
        """Nothing starts before the first task."""

    def has_slot(self, device: str) -> bool:
        if len(self._running) >= self.slots:
            return False
        on_gpu = self._wants_gpu(device)
        used = sum(running.on_gpu == on_gpu for running in self._running.values())
        return used < (self._gpu_slots if on_gpu else max(1, self._cpu_slots))

    def submit(self, task: TrainingTask) -> None:
        on_gpu = self._wants_gpu(task.trial.device)
        device = "cuda:0" if on_gpu else task.device  # Ray shows a task no GPU but its own.
        task = replace(task, exclusive=self._is_exclusive(on_gpu), device=device)
        self._running[task.key] = _RayTask(task, self._start(task, on_gpu), on_gpu)

    def next(self, timeout: float | None = None) -> Event | None:
        while not self._ready:
            if not self._running:
                return None
            by_stream = {id(running.stream): running for running in self._running.values()}
            streams = [running.stream for running in self._running.values()]
            ready, _ = self._ray.wait(streams, num_returns=1, timeout=timeout, fetch_local=False)
            if not ready:
                return None
            self._take(by_stream[id(ready[0])])
        return self._ready.popleft()

    def cancel(self, key: str) -> None:
        if key in self._running:
            self._ray.cancel(self._running.pop(key).stream, force=True)
            self._ready.append(Event(key, CANCELLED))

    def request_stop(self) -> bool:
        return False

    def close(self) -> None:
        if not self._ray.is_initialized():
            return
        for running in self._running.values():
            self._ray.cancel(running.stream, force=True)
        self._running.clear()
        self._ready.clear()
        self._datasets.clear()
        if self._owns_cluster:
            self._ray.shutdown()

    def _wants_gpu(self, device: str) -> bool:
        kind = device.partition(":")[0]
        return kind in GPU_KINDS or (kind == "auto" and self._gpu_slots > 0)

    def _is_exclusive(self, on_gpu: bool) -> bool:
        """Whether what a task reserves keeps every other task off its device. Nodes that share a
        machine may each hand out the same GPU."""
        if not on_gpu:
            return self._all_cores is not None
        hosts = [
            node["NodeManagerAddress"] for node in self._live_nodes() if "GPU" in node["Resources"]
        ]
        return self._gpu_share == 1 and 0 < len(hosts) == len(set(hosts))

    def _live_nodes(self) -> list[dict[str, Any]]:
        return [node for node in self._ray.nodes() if node["Alive"]]

    def _start(self, task: TrainingTask, on_gpu: bool) -> Any:
        options = {
            "num_cpus": 1 if on_gpu else self._all_cores or 1,
            "num_gpus": self._gpu_share if on_gpu and self._gpu_slots else 0,
            "max_retries": 0,
            "num_returns": "streaming",
        }
        return self._remote.options(**options).remote(task, *self._dataset(task))

    def _dataset(self, task: TrainingTask) -> tuple[str, Any]:
        """The key of the task's data set, and the reference to it in the object store, where it is
        put once. The node reads a data set that is not in memory itself."""
        from harness.training.data import dataset_key, is_in_memory, load_dataset

        if is_absent("dataset", task.trial.dataset):
            return "", None
        source = task.trial.dataset, task.data_root, task.fingerprint.data
        key = dataset_key(*source)
        if key not in self._datasets:
            raw: RawData | None = None
            with suppress(Exception):  # The task fails the same way, and says why.
                raw = load_dataset(*source)
            is_sent = raw is not None and is_in_memory(raw)
            self._datasets[key] = self._ray.put(raw if is_sent else None)
        return key, self._datasets[key]

    def _take(self, running: _RayTask) -> None:
        """Takes the next record of a task, or starts the task again if its process or node died."""
        try:
            record: Record = self._ray.get(next(running.stream))
        except StopIteration:
            self._retry(running, "it ended without an outcome")
            return
        except self._ray.exceptions.RayTaskError as error:
            self._fail(running, f"it could not run there: {error.cause!r}")
            return
        except self._ray.exceptions.RayError as error:
            self._retry(running, type(error).__name__)
            return
        measured = not isinstance(record, (Started, Ended))  # A second start says where it resumed.
        if measured and running.skip:
            running.skip -= 1
            return
        running.seen += measured
        self._ready.append(Event(running.task.key, record))
        if isinstance(record, Ended):
            del self._running[running.task.key]

    def _retry(self, running: _RayTask, why: str) -> None:
        if running.attempts >= MAX_ATTEMPTS:
            self._fail(running, f"its process or node died {MAX_ATTEMPTS} times ({why})")
            return
        running.attempts += 1
        running.skip = running.seen
        running.stream = self._start(running.task, running.on_gpu)

    def _fail(self, running: _RayTask, reason: str) -> None:
        del self._running[running.task.key]
        self._ready.append(Event(running.task.key, Ended(Outcome.FAILED, {}, reason)))


def _records(task: TrainingTask, key: str, raw: RawData | None) -> Iterator[Record]:
    """The records of a task, on its node. raw: its data set, None to read it there."""
    import torch

    from harness.execution.run_task import run
    from harness.training import shared_data

    torch.set_num_threads(1)
    shared_data.use_cache({} if raw is None else {key: raw})
    yield from run(task)


def _import_ray(is_local: bool) -> Any:
    """Ray's module, with its usage statistics off. is_local: for a cluster on this machine only."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Tasks that ask for no GPU need not have them hidden.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if is_local:
        # Ray's switch for systems whose firewalls ask about every port: it listens on 127.0.0.1.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError:
        raise InputError(
            "--executor ray needs Ray, which is not installed: pip install 'harness[ray]'"
        ) from None
    return ray


def _connect(ray: Any, address: str | None) -> None:
    """Joins a cluster, or starts one that nobody else can reach."""
    own = {"num_cpus": available_cores(), "include_dashboard": False} if address is None else {}
    try:
        ray.init(address=address or "local", **own, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InputError(f"no Ray cluster at {address or 'this machine'}: {error}") from None
