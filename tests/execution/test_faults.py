"""Real faults: memory that runs out, two harnesses on one sweep, a killed parent."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from harness.core.records import Ended, Outcome, Started
from harness.execution.devices import DeviceSlots
from harness.execution.executors import worker_start as processes
from harness.execution.executors.base import Executor, TrainingTask
from harness.execution.executors.inline import InlineExecutor
from harness.execution.executors.process import ProcessExecutor
from harness.execution.executors.worker_start import SharedFolder
from harness.store.names import PARAM_TRIAL, TAG_KIND, TRIAL
from tests.execution.support import drain
from tests.support import make_trial

HUGE = {"name": "mlp", "hidden": [1 << 30, 1 << 30]}
"""A layer of 4 EiB of weights passes validation; no allocator grants it."""
HEAVY = {"name": "mlp", "hidden": [8192, 8192]}
"""256 MiB of weights, and as much again for their gradients."""

FILE = """\
name: shared
trial: {dataset: iris, model: perceptron, epochs: 3, batch_size: 16, lr: 0.1}
grid: {optimizer: [sgd, adam, momentum, adamw], seed: [0, 1, 2, 3]}
artifacts: none
"""


def task(key: str, root: Path, **fields: object) -> TrainingTask:
    return TrainingTask({key: make_trial(**{"epochs": 1, **fields})}, root, test_outputs=False)


def ends(executor: Executor, *tasks: TrainingTask) -> dict[str, Ended]:
    events = drain(executor, *tasks)
    return {event.key: event.record for event in events if isinstance(event.record, Ended)}


@pytest.fixture
def worker() -> Iterator[ProcessExecutor]:
    executor = ProcessExecutor([DeviceSlots("cpu", 1)])
    yield executor
    executor.close()


def test_memory_that_no_machine_has_fails_the_trial_alone(data_root: Path) -> None:
    executor = InlineExecutor()
    found = ends(executor, task("huge", data_root, model=HUGE), task("next", data_root))
    assert found["huge"].outcome is Outcome.FAILED
    assert "out of memory on cpu" in found["huge"].reason
    assert found["next"].outcome is Outcome.DONE


@pytest.mark.slow
def test_a_worker_out_of_memory_frees_it(worker: ProcessExecutor, data_root: Path) -> None:
    """The limit is set on the live worker, so that the heavy trial fails when it has allocated some
    of the memory that it needs."""
    ends(worker, task("before", data_root))
    process = _only_worker()
    before = process.memory_info()
    limit = before.vms + (400 << 20)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    heavy = [task(key, data_root, model=HEAVY) for key in "abc"]
    found = ends(worker, *heavy, task("after", data_root))
    for key in "abc":
        assert found[key].outcome is Outcome.FAILED
        assert "out of memory on cpu" in found[key].reason
    assert found["after"].outcome is Outcome.DONE
    assert _only_worker().pid == process.pid, "the worker itself lives on"
    assert process.memory_info().rss - before.rss < 100 << 20


WIDE = {"name": "mlp", "hidden": [4096, 4096]}
"""64 MiB of weights, and as much again for their gradients."""


@pytest.mark.slow
def test_a_stack_out_of_memory_is_halved_and_frees_it(
    worker: ProcessExecutor, data_root: Path
) -> None:
    """The limit leaves enough for one of its trials, but not for four."""
    few = {"dataset": {"name": "digits", "limit": 60}, "model": WIDE}
    ends(worker, task("before", data_root))
    process = _only_worker()
    before = process.memory_info()
    limit = before.vms + (450 << 20)
    resource.prlimit(process.pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    trials = {key: make_trial(epochs=1, seed=seed, **few) for seed, key in enumerate("abcd")}
    fused = {}
    for event in drain(
        worker, TrainingTask(trials, data_root, test_outputs=False), task("after", data_root)
    ):
        if isinstance(event.record, Started):
            fused[event.key] = event.record.metadata.get("fused", 1)
        elif isinstance(event.record, Ended):
            assert event.record.outcome is Outcome.DONE, event.record.reason
    assert fused.keys() == {*"abcd", "after"}
    assert max(fused.values()) < 4
    assert _only_worker().pid == process.pid
    assert process.memory_info().rss - before.rss < 100 << 20


def _only_worker() -> psutil.Process:
    (worker,) = multiprocessing.active_children()
    return psutil.Process(worker.pid)


def test_a_cpu_trial_says_where_it_ran_and_whether_alone(
    worker: ProcessExecutor, data_root: Path
) -> None:
    found = []
    for executor in (worker, InlineExecutor(), ProcessExecutor([DeviceSlots("cpu", 2)])):
        events = drain(executor, task("a", data_root, device="auto"))
        starts = [event.record for event in events if isinstance(event.record, Started)]
        found += [(start.metadata["device"], start.metadata["exclusive"]) for start in starts]
        executor.close()
    assert found == [("cpu", True), ("cpu", True), ("cpu", False)]


def test_shared_data_of_processes_killed_together_goes_with_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MEMORY", tmp_path / "absent")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(processes, "YOUNG_SECONDS", 0.0)
    code = (
        "import os, tempfile, harness.execution.executors.worker_start as p\n"
        f"p.MEMORY = p.Path('/absent'); tempfile.tempdir = {str(tmp_path)!r}\n"
        "print(p.SharedFolder.make().path, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    left = Path(killed.stdout.strip())
    assert left.is_dir(), killed.stderr
    living = SharedFolder.make()
    assert not left.exists()
    other = SharedFolder.make()
    assert living.path.is_dir(), "its process lives"
    other.remove()
    living.remove()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_killed_parent_leaves_no_worker_and_no_shared_data(workspace: Path) -> None:
    (workspace / "shared.yaml").write_text(FILE.replace("epochs: 3", "epochs: 1000000"))
    parent = _sweep("--workers", "2")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not _runs_by_trial(workspace):
        time.sleep(0.2)
    process = psutil.Process(parent.pid)
    workers = process.children(recursive=True)
    held = [Path(file.path).parent for file in process.open_files()]
    folders = [folder for folder in held if folder.name.startswith("harness-data-")]
    assert workers
    assert len(folders) == 2, "of data, and of sockets"
    parent.kill()
    parent.communicate()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    assert not [folder for folder in folders if folder.exists()]


@pytest.mark.slow
def test_two_first_starts_at_once_run_each_trial_once(workspace: Path) -> None:
    """One schema, one experiment, and no trial twice."""
    (workspace / "shared.yaml").write_text(FILE)
    both = [_sweep("--workers", "1"), _sweep("--workers", "1")]
    told = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], told
    found = _runs_by_trial(workspace)
    assert len(found) == 16
    assert set(found.values()) == {1}


@pytest.mark.slow
def test_a_harness_takes_over_what_a_killed_one_held(workspace: Path) -> None:
    (workspace / "shared.yaml").write_text(FILE.replace("epochs: 3", "epochs: 300"))
    first, second = _sweep("--workers", "1"), _sweep("--workers", "1")
    while len(_runs_by_trial(workspace)) < 4:
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.wait(timeout=120) == 0, second.communicate()[0]
    finished = _runs_by_trial(workspace, "FINISHED")
    assert len(finished) == 16
    assert set(finished.values()) == {1}


def _sweep(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "harness.sweep", "shared.yaml", "--no-compare", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _runs_by_trial(workspace: Path, status: str = "") -> Counter[str]:
    """How many runs each trial has."""
    from harness.store.store import open_store

    if not (workspace / "mlruns" / "mlflow.db").is_file():
        return Counter()
    client = open_store(workspace).client
    experiments = client.search_experiments()
    assert len(experiments) <= 2, "the default one, and ours"
    found = client.search_runs([one.experiment_id for one in experiments], max_results=1000)
    return Counter(
        run.data.params[PARAM_TRIAL]
        for run in found
        if run.data.tags[TAG_KIND] == TRIAL and status in ("", run.info.status)
        if PARAM_TRIAL in run.data.params
    )


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once_and_leaves_the_store_intact(workspace: Path) -> None:
    (workspace / "shared.yaml").write_text(FILE.replace("epochs: 3", "epochs: 1000000"))
    parent = _sweep("--workers", "2")
    while not _runs_by_trial(workspace):
        time.sleep(0.2)
    workers = psutil.Process(parent.pid).children(recursive=True)
    for worker in workers:
        worker.suspend()  # So that the first signal, alone, would wait for their checkpoints.
    parent.send_signal(signal.SIGINT)
    parent.send_signal(signal.SIGTERM)
    assert parent.wait(timeout=60) == 130
    assert _runs_by_trial(workspace, "RUNNING"), "it did not even wait to close its runs"
    for worker in workers:
        worker.resume()
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert not alive
    (workspace / "shared.yaml").write_text(FILE)
    assert _sweep("--workers", "2").wait(timeout=120) == 0
    finished = _runs_by_trial(workspace, "FINISHED")
    assert len(finished) == 16
    assert set(finished.values()) == {1}
    assert not _runs_by_trial(workspace, "RUNNING")
    with closing(sqlite3.connect(workspace / "mlruns" / "mlflow.db")) as reader:
        assert reader.execute("PRAGMA integrity_check").fetchone() == ("ok",)
