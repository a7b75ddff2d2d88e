"""What checkpoints cost, and what a killed trial trains again, for the small MNIST CNN.

`python -m benchmarks.checkpoints [--epochs 2] [--rounds 3]`
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

from harness.core.paths import data_root
from harness.execution.checkpoint_folder import CheckpointFolder, Position
from harness.execution.executors.base import TrainingTask
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import make_task
from harness.execution.run_task import run
from harness.experiment.loading import load
from harness.experiment.plan import make_plan

EXPERIMENT: Final = Path(__file__).parent.parent / "experiments" / "mnist_dropout_cnn.yaml"
WAYS: Final[dict[str, float | None]] = {
    "no checkpoints": inf,
    "default interval": None,
    "every second": 1.0,
}
INTERVAL: Final = 2.0
KILLS: Final = 3


def main(arguments: Sequence[str] = ()) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.checkpoints")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(list(arguments))
    measure_cost(options.epochs, options.rounds)
    measure_repeated_training(options.epochs)


def measure_cost(epochs: int, rounds: int) -> None:
    """Prints wall-clock seconds of the same training with and without checkpoints, interleaved."""
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    written: dict[str, int] = {}
    for round_ in range(rounds + 1):  # The first round warms up.
        for name, every in WAYS.items():
            with tempfile.TemporaryDirectory() as folder:
                began = time.perf_counter()
                written[name] = _train(folder, every, epochs)
                if round_:
                    seconds[name].append(time.perf_counter() - began)
    base = statistics.median(seconds["no checkpoints"])
    for name, each in seconds.items():
        middle = statistics.median(each)
        print(
            f"{name:18} {middle:7.2f} s [{min(each):.2f}, {max(each):.2f}], n = {len(each)}, "
            f"{written[name]:3} written, {100 * (middle / base - 1):+.1f} %"
        )


def measure_repeated_training(epochs: int) -> None:
    """Kills the training repeatedly, and prints how many batches were trained more than once."""
    lost, worst = 0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(KILLS):
            reader, writer = get_context("spawn").Pipe(duplex=False)
            process = get_context("spawn").Process(target=_watched, args=(folder, epochs, writer))
            process.start()
            writer.close()
            last, steps, seconds = _kill(reader, 1.75 * INTERVAL, process.pid or 0)
            process.join()
            resumed = _task(folder, None, epochs).latest_position or Position(0, 0)
            again = last - (resumed.epoch * steps + resumed.batch)
            lost, worst = lost + again, max(worst, again * seconds)
    print(
        f"killed {KILLS} times, {INTERVAL:g} s between checkpoints: {lost} batches trained again, "
        f"at most {worst:.2f} s of training a kill"
    )


def _kill(reader: Connection, seconds: float, pid: int) -> tuple[int, int, float]:
    """Kills a process `seconds` after its first batch.

    Returns how many batches of the whole run it had done, the batches of an epoch, and the seconds
    a batch took.
    """
    first, steps = reader.recv()
    last, began, per_batch = first, time.perf_counter(), 0.0
    with suppress(EOFError):
        while True:
            last, _ = reader.recv()
            passed = time.perf_counter() - began
            if not per_batch and passed > seconds:
                os.kill(pid, signal.SIGKILL)
                per_batch = passed / (last - first)
    return last, steps, per_batch


def _task(folder: str, every: float | None, epochs: int) -> TrainingTask:
    (planned,) = make_plan(load(EXPERIMENT, [f"epochs={epochs}"]), data_root()).trials
    checkpoints = ExperimentCheckpoints(Path(folder), every)
    return make_task(data_root(), False, checkpoints, None, [planned])


def _train(folder: str, every: float | None, epochs: int) -> int:
    """Trains to the end. Returns how many checkpoints were written."""
    count = 0
    write = CheckpointFolder.write

    def count_and_write(*arguments: Any) -> None:
        nonlocal count
        count += 1
        write(*arguments)

    CheckpointFolder.write = count_and_write  # type: ignore[method-assign,assignment]
    try:
        for _ in run(_task(folder, every, epochs)):
            pass
    finally:
        CheckpointFolder.write = write  # type: ignore[method-assign]
    return count


def _watched(folder: str, epochs: int, pipe: Connection) -> None:
    """Trains, and sends the number of each batch in the whole run."""
    from harness.training import loop

    update = loop.training_step

    def step_and_send(parts: Any, step: int, *rest: Any) -> Any:
        losses = update(parts, step, *rest)
        pipe.send((step + 1, parts.steps_per_epoch))
        return losses

    loop.training_step = step_and_send  # type: ignore[assignment]
    for _ in run(_task(folder, INTERVAL, epochs)):
        pass


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
