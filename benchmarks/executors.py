"""Compares executors: `python -m benchmarks.executors`.

The same trials are trained by the inline executor with all threads, by worker processes of one
thread each, and by Ray Core used by hand on the same training function. Each way runs in a process
of its own, from start to the last record; the ways are interleaved. Prints medians and ranges, and
then the memory of a thousand tabular trials.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import statistics
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.execution.executors.base import TrainingTask

ROOT = Path(__file__).resolve().parent.parent
WAYS = ("inline", "process", "ray by hand")
CNN = {"name": "cnn", "channels": [32, 32]}


def main() -> None:
    """Runs the whole comparison; options shorten it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.executors", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trials", type=int, default=4, help="CNN trials of one epoch")
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--way", choices=[*WAYS, "memory"], help=argparse.SUPPRESS)
    options, _ = parser.parse_known_args()
    if options.way == "memory":
        print(json.dumps(measure_memory()))
    elif options.way:
        print(json.dumps(train_all(options.way, options.trials, options.dataset)))
    else:
        compare(options.repeats, options.trials, options.dataset)


def compare(repeats: int, trials: int, dataset: str) -> None:
    """Prints the table."""
    import torch

    print(
        f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
    ways = [way for way in WAYS if way != "ray by hand" or _has_ray()]
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(repeats):
        for way in ways:
            start = time.perf_counter()
            _spawn(way, trials, dataset)
            seconds[way].append(time.perf_counter() - start)
    base = statistics.median(seconds["inline"])
    print(
        f"\n{trials} CNN trials of one epoch on {dataset}, whole process, "
        f"{repeats} interleaved repeats"
    )
    for way, values in seconds.items():
        middle = statistics.median(values)
        print(
            f"  {way:<12} {middle:7.1f} s  ({min(values):.1f} to {max(values):.1f})  "
            f"{base / middle:.2f} times as fast as inline"
        )
    memory = json.loads(_spawn("memory", 0, dataset))
    print("\n1,000 iris trials, MiB that parent and workers hold for themselves, after each 200")
    print(
        "  "
        + "  ".join(f"{mib:.0f}" for mib in memory["mib"])
        + f"; {1000 / memory['seconds']:.0f} trials/s"
    )


def train_all(way: str, trials: int, dataset: str) -> float:
    """Trains the trials in one way. Returns the last validation accuracy, to show that all did."""
    tasks = _tasks(trials, dataset=dataset)
    if way == "ray by hand":
        return _by_hand(tasks)
    from harness.execution.devices import DeviceSlots, available_cores
    from harness.execution.executors.inline import InlineExecutor
    from harness.execution.executors.process import ProcessExecutor

    executor = (
        InlineExecutor()
        if way == "inline"
        else ProcessExecutor([DeviceSlots("cpu", available_cores())])
    )
    last = 0.0
    waiting = deque(tasks)
    while True:
        while waiting and executor.has_slot("cpu"):
            executor.submit(waiting.popleft())
        if (event := executor.next()) is None:
            break
        last = _accuracy(event.record, last)
    executor.close()
    return last


def _by_hand(tasks: list[TrainingTask]) -> float:
    """Trains as a user of Ray Core would write it around the training function."""
    import ray

    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )

    @ray.remote(num_cpus=1)
    def train(task: TrainingTask) -> float:
        import torch

        from harness.execution.run_task import run

        torch.set_num_threads(1)
        last = 0.0
        for record in run(task):
            last = _accuracy(record, last)
        return last

    accuracies = ray.get([train.remote(task) for task in tasks])
    ray.shutdown()
    return accuracies[-1]


def measure_memory() -> dict[str, object]:
    """Measures memory over a thousand tiny trials."""
    import psutil

    from harness.core.records import Ended
    from harness.execution.devices import DeviceSlots, available_cores
    from harness.execution.executors.process import ProcessExecutor

    executor, mib, ended = ProcessExecutor([DeviceSlots("cpu", available_cores())]), [], 0
    waiting = iter(_tasks(1000, dataset="iris", model={"name": "perceptron"}))
    start = time.perf_counter()
    while ended < 1000:
        while executor.has_slot("cpu") and (task := next(waiting, None)) is not None:
            executor.submit(task)
        event = executor.next()
        if event is not None and isinstance(event.record, Ended):
            ended += 1
            if ended % 200 == 0:
                processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
                mib.append(sum(p.memory_full_info().uss for p in processes) / 2**20)
    seconds = time.perf_counter() - start
    executor.close()
    return {"mib": mib, "seconds": seconds}


def _tasks(count: int, **fields: object) -> list[TrainingTask]:
    sys.path.insert(0, str(ROOT))
    from harness.core.paths import data_root
    from harness.execution.executors.base import TrainingTask
    from tests.support import make_trial

    common = {"dataset": "mnist", "model": CNN, "epochs": 1, "lr": 0.05} | fields
    return [
        TrainingTask({str(seed): make_trial(**common, seed=seed)}, data_root(), test_outputs=False)
        for seed in range(count)
    ]


def _accuracy(record: object, last: float) -> float:
    from harness.core.records import Ended, Measured

    if isinstance(record, Ended) and record.outcome != "done":
        raise RuntimeError(record.reason)
    return record.values["val/accuracy"] if isinstance(record, Measured) else last


def _spawn(way: str, trials: int, dataset: str) -> str:
    command = [sys.executable, "-m", "benchmarks.executors", "--way", way, "--trials", str(trials)]
    command += ["--dataset", dataset]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()[-1]


def _has_ray() -> bool:
    import importlib.util

    return importlib.util.find_spec("ray") is not None


if __name__ == "__main__":
    main()
