"""Measures how much faster trials train as one stack than one by one, in one process.

Both ways take turns, repeat by repeat, so that a busy machine slows both. For each way it times
everything from the trials to their last record, and the training clock alone.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

REPEATS = 3
SIZES = (1, 4, 16, 64, 256)
MAX_ONE_BY_ONE = 8
"""The most trials to train one by one; more take proportionally longer."""
OPTIMIZERS = (("sgd", 0.1), ("momentum", 0.01), ("adam", 0.001), ("adamw", 0.001))


@dataclass(frozen=True)
class Setting:
    """What the trials of a comparison share.

    largest: the largest K that does not take too long.
    own: whether the model is the module of `benchmarks.own_module`.
    """

    name: str
    fields: dict[str, Any]
    largest: int
    own: bool = False


MLP = {"name": "mlp", "hidden": [24, 24]}
SETTINGS = (
    Setting(
        "breast_cancer mlp",
        {"dataset": "breast_cancer", "model": MLP, "loss": "bce", "epochs": 10},
        256,
    ),
    Setting("digits own module", {"dataset": "digits", "model": MLP, "epochs": 5}, 64, own=True),
    Setting("mnist mlp", {"dataset": "mnist", "model": MLP, "epochs": 1}, 64),
    Setting("mnist bn_cnn", {"dataset": "mnist", "model": {"name": "bn_cnn"}, "epochs": 1}, 4),
)


@dataclass(frozen=True)
class Seconds:
    """A trial's share of the whole time, and of the training clock."""

    whole: float
    training: float


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints, for each setting and K, the ratio of one by one to stacked.

    It is the median [lowest, highest] over the repeats; above 1 the stack is faster.
    """
    import torch

    from harness.core.errors import DataMissing

    parser = argparse.ArgumentParser(prog="python -m benchmarks.stacks", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="K")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args([] if arguments is None else arguments)
    torch.set_num_threads(options.threads)
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads, "
        f"torch {torch.__version__}, {options.repeats} interleaved repeats"
    )
    print(f"{'':20}{'K':>5}  {'whole':>22}  {'training alone':>22}  ms a trial, stacked")
    for setting in SETTINGS:
        if options.only not in setting.name:
            continue
        for size in options.sizes:
            if size > setting.largest:
                continue
            try:
                print(_line(setting, size, options.repeats), flush=True)
            except DataMissing as error:
                print(f"{setting.name:20} skipped: {error}")
                break


def _line(setting: Setting, size: int, repeats: int) -> str:
    pairs = [(_one_by_one(setting, size), _stacked(setting, size)) for _ in range(repeats + 1)][1:]
    whole = _spread(one.whole / stack.whole for one, stack in pairs)
    training = _spread(one.training / stack.training for one, stack in pairs)
    cost = median(1000 * stack.whole for _, stack in pairs)
    return f"{setting.name:20}{size:5}  {whole:>22}  {training:>22}  {cost:.1f}"


def _spread(ratios: Iterable[float]) -> str:
    ordered = sorted(ratios)
    return f"{median(ordered):.1f} [{ordered[0]:.1f}, {ordered[-1]:.1f}]"


def _one_by_one(setting: Setting, size: int) -> Seconds:
    from harness.core.paths import data_root
    from harness.training.loop import train
    from harness.training.setup import TrainingSetup

    trials = _trials(setting, size)
    sample = trials[:: max(1, size // MAX_ONE_BY_ONE)][:MAX_ONE_BY_ONE]
    training = 0.0

    def run() -> None:
        nonlocal training
        for trial in sample:
            training += _last_clock(train(TrainingSetup(trial, data_root())))

    whole = _timed(run)
    return Seconds(whole / len(sample), training / len(sample))


def _stacked(setting: Setting, size: int) -> Seconds:
    from harness.core.paths import data_root
    from harness.training.device import resolve
    from harness.training.stacked.loop import train_stack
    from harness.training.stacked.stack import Stack

    training = 0.0

    def run() -> None:
        nonlocal training
        trials = [(str(i), trial) for i, trial in enumerate(_trials(setting, size))]
        stack = Stack(trials, data_root(), resolve(trials[0][1].device))
        items = (item for item in train_stack(stack) if isinstance(item, tuple))
        training = _last_clock(record for _, record in items)

    whole = _timed(run)
    return Seconds(whole / size, training / size)


def _timed(run: Callable[[], None]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _last_clock(records: Iterable[Any]) -> float:
    from harness.core.metrics import TRAIN_SECONDS
    from harness.core.records import Measured

    clock = 0.0
    for record in records:
        if isinstance(record, Measured):
            clock = record.values[TRAIN_SECONDS]
    return clock


def _trials(setting: Setting, size: int) -> list[Any]:
    """Returns a grid of optimizers and learning rates on four seeds, as in a comparison."""
    from benchmarks.own_module import with_own_module
    from harness.experiment.trial import Trial

    trials = [
        Trial.of(resolved(setting, *OPTIMIZERS[i % 4], factor=1 + i / size, seed=i // 4 % 4))
        for i in range(size)
    ]
    return [with_own_module(trial) for trial in trials] if setting.own else trials


def resolved(
    setting: Setting, optimizer: str, lr: float, factor: float, seed: int
) -> dict[str, Any]:
    values: dict[str, Any] = {
        "optimizer": optimizer,
        "lr": lr * factor,
        "scheduler": "constant",
        "loss": "cross_entropy",
        "seed": seed,
        "device": "cpu",
        "batch_size": 64,
        "eval_batch_size": 512,
        "val_fraction": 0.1,
        "eval_every": 1,
        "log_every": 0,
        "augment": [],
        "precision": "fp32",
        "grad_clip": None,
        "metrics": ["accuracy"],
    } | setting.fields
    for name in ("dataset", "model", "optimizer", "scheduler", "loss"):
        if isinstance(values[name], str):
            values[name] = {"name": values[name]}
    return values


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
