"""The Ray executor on a real cluster: a head and two worker nodes on this machine."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import Ended, Measured, Outcome, Started
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.devices import DeviceSlots
from harness.execution.executors.base import Executor, TrainingTask
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.execution.executors.ray import RayExecutor
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from tests.execution import support
from tests.resume_support import comparable, planned
from tests.resume_support import task as checkpointed
from tests.support import make_trial

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'harness[ray]')")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "include_dashboard": False},
    )
    made.add_node(num_cpus=1)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.fixture
def executor(cluster: Any) -> Iterator[RayExecutor]:
    made = RayExecutor()
    yield made
    made.close()


def task(key: str, root: Path, **fields: object) -> TrainingTask:
    return TrainingTask({key: make_trial(**{"epochs": 2, **fields})}, root, test_outputs=True)


def drain(executor: Executor, *tasks: TrainingTask) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for event in support.drain(executor, *tasks):
        found.setdefault(event.key, []).append(event.record)
    return found


def measured(records: list[Any]) -> list[dict[str, float]]:
    return [
        {k: v for k, v in r.values.items() if not k.startswith(MACHINE_DEPENDENT)}
        for r in records
        if isinstance(r, Measured)
    ]


def test_measures_what_inline_measures(executor: RayExecutor, data_root: Path) -> None:
    tasks = [task(str(seed), data_root, seed=seed) for seed in range(3)]
    on_ray, here = drain(executor, *tasks), drain(InlineExecutor(), *tasks)
    for key in here:
        assert [type(r) for r in on_ray[key]] == [Started, Measured, Measured, Measured, Ended]
        assert measured(on_ray[key]) == measured(here[key])
        assert on_ray[key][-1].test_outputs.outputs.equal(here[key][-1].test_outputs.outputs)


def test_every_executor_measures_the_same_in_any_order(cluster: Any, data_root: Path) -> None:
    """To the last bit: threads are equal, and nothing depends on what ran before or beside."""
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    dropout = {"name": "mlp", "hidden": [16], "dropout": 0.2}
    tasks = [
        task(f"{optimizer} {seed}", data_root, seed=seed, optimizer=optimizer, model=dropout)
        for optimizer in ("adam", "momentum", "sgd")
        for seed in range(3)
    ]
    executors: tuple[Executor, ...] = (
        InlineExecutor(),
        ProcessExecutor([DeviceSlots("cpu", 2)]),
        RayExecutor(),
    )
    found = []
    for order, one in enumerate(executors, start=1):
        shuffled = random.Random(order).sample(tasks, len(tasks))
        assert shuffled != tasks
        records_of = drain(one, *shuffled)
        found.append({key: measured(records) for key, records in records_of.items()})
        one.close()
    cluster.remove_node(second)
    assert [len(records) for records in found[0].values()] == [3] * 9
    assert found[0] == found[1] == found[2]


def test_a_task_is_alone_only_with_a_whole_gpu(
    cluster: Any, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster believes what it is told of its resources, so no GPU is needed to see what a task
    asks for."""
    monkeypatch.setattr(RayExecutor, "_start", lambda *_: None)

    def alone(device: str, slots: int = 1) -> bool:
        executor = RayExecutor(slots=slots)
        executor.submit(task("one", data_root, device=device))
        return executor._running["one"].task.exclusive

    assert not alone("cuda"), "there is none"
    with_gpu = cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    assert alone("cuda")
    assert alone("auto")
    assert not alone("cuda", slots=2)
    assert not alone("cpu"), "others may use the cluster"
    again = cluster.add_node(num_cpus=1, num_gpus=1)
    cluster.wait_for_nodes()
    assert not alone("cuda"), "both nodes are of this machine"
    cluster.remove_node(with_gpu)
    cluster.remove_node(again)


def test_failures_and_cancellations_end_once(executor: RayExecutor, data_root: Path) -> None:
    executor.submit(task("broken", data_root, model={"name": "mlp", "hidden": [2**50]}))
    assert drain(executor)["broken"][-1].outcome is Outcome.FAILED
    executor.submit(task("endless", data_root, epochs=1_000_000))
    assert executor.next() is not None
    executor.cancel("endless")
    assert drain(executor)["endless"][-1].outcome is Outcome.INTERRUPTED
    executor.submit(task("after", data_root))
    assert drain(executor)["after"][-1].outcome is Outcome.DONE


def test_a_killed_task_resumes_from_its_checkpoint(
    executor: RayExecutor, tmp_path: Path, data_root: Path
) -> None:
    trial, checkpoints = (
        make_trial(epochs=4, batch_size=32),
        ExperimentCheckpoints(tmp_path, every=0),
    )
    folder = CheckpointFolder(checkpoints.trial_folder(planned(trial)))
    executor.submit(checkpointed(trial, data_root, checkpoints))
    while (folder.latest_position() or Position(0, 0)) < Position(1, 5):
        time.sleep(0.01)
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # Others of Ray's come and go.
            if "ray::_records" in " ".join(process.cmdline()):
                process.kill()
    (records,) = drain(executor).values()
    starts = [record for record in records if isinstance(record, Started)]
    assert [start.metadata.get("resumed") for start in starts] == [None, 1]
    inline = InlineExecutor()
    inline.submit(task("whole", data_root, epochs=4, batch_size=32))
    (whole,) = drain(inline).values()
    assert comparable([starts[0], *(r for r in records if r not in starts)]) == comparable(whole)


def test_a_node_killed_in_mid_sweep_loses_nothing(cluster: Any, data_root: Path) -> None:
    doomed = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    executor = RayExecutor()
    assert executor.slots == 2
    for seed in range(6):
        executor.submit(task(str(seed), data_root, seed=seed, epochs=40))
    seen: dict[str, list[Any]] = {}
    while len(seen) < 2:
        event = executor.next()
        assert event is not None
        seen.setdefault(event.key, []).append(event.record)
    cluster.remove_node(doomed, allow_graceful=False)
    for key, records in drain(executor).items():
        seen.setdefault(key, []).extend(records)
    executor.close()
    assert len(seen) == 6
    inline = InlineExecutor()
    for key, records in seen.items():
        assert records[-1].outcome is Outcome.DONE
        assert [r.epoch for r in records if isinstance(r, Measured)] == list(range(41))
        inline.submit(task(key, data_root, seed=int(key), epochs=40))
        assert measured(records) == measured(drain(inline)[key])
