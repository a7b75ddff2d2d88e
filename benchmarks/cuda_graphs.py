"""Measures how much a CUDA graph of a stack's update saves on a GPU, and that results are equal.

The same stack trains twice, epoch by epoch in turn: once with its updates launched one by one, and
once with updates that were recorded and are replayed. Only the updates are timed, not the
preparation and evaluation of an epoch. Needs torch, pydantic, psutil and scikit-learn, and no
store: run `python -m benchmarks.cuda_graphs` in a checkout.
"""

from __future__ import annotations

import argparse
import platform
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.stacks import MLP, OPTIMIZERS, Setting, resolved

if TYPE_CHECKING:
    import torch

    from harness.training.stacked.stack import Stack
    from harness.training.stacked.steps import StepRunner

REPEATS = 5
SIZES = (4, 16, 64, 128)
SETTINGS = (
    Setting("breast_cancer mlp", {"dataset": "breast_cancer", "model": MLP, "loss": "bce"}, 128),
    Setting("digits mlp", {"dataset": "digits", "model": MLP}, 128),
    Setting("digits dropout", {"dataset": "digits", "model": {**MLP, "dropout": 0.2}}, 128),
    Setting("digits bn_cnn", {"dataset": "digits", "model": {"name": "bn_cnn"}}, 16),
)
BATCH = 32
WARM_UP = 2
"""Epochs in which graphs are recorded and nothing is timed."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table.

    Columns: microseconds of an update, launched and replayed; their ratio (median [lowest,
    highest]; above 1 the graph is faster); how far apart the weights are after all epochs; whether
    a replayed epoch waited for the device; and the value of the run's tag.
    """
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.cuda_graphs", description=__doc__)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, metavar="K")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    options = parser.parse_args([] if arguments is None else arguments)
    if not torch.cuda.is_available():
        print("no GPU here: nothing to measure")
        return
    device = torch.device("cuda", 0)
    name = torch.cuda.get_device_name(device)
    print(f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, {platform.machine()}")
    print(f"batches of {BATCH}, {options.repeats} interleaved epochs")
    print(
        f"{'':20}{'K':>5}{'launched':>10}{'replayed':>10}  {'ratio':>20}{'apart':>10}  waits  tag"
    )
    for setting in SETTINGS:
        for size in options.sizes:
            if options.only in setting.name and size <= setting.largest:
                print(_line(setting, size, options.repeats, device), flush=True)


def _line(setting: Setting, size: int, repeats: int, device: torch.device) -> str:
    from harness.training.stacked.cuda_graph import recorder_for
    from harness.training.stacked.steps import StepRunner

    one, other = (_stack(setting, size, repeats, device) for _ in range(2))
    with StepRunner(one, None) as launched, StepRunner(other, recorder_for(device)) as replayed:
        pairs = [
            (_epoch(one, launched, epoch), _epoch(other, replayed, epoch))
            for epoch in range(1, WARM_UP + repeats + 1)
        ][WARM_UP:]
        waits = _waits(other, replayed, WARM_UP + repeats + 1)
        tag = replayed.metadata["cuda_graph"]
    _epoch(one, launched, WARM_UP + repeats + 1)
    ratios = sorted(first / second for first, second in pairs)
    spread = f"{median(ratios):.2f} [{ratios[0]:.2f}, {ratios[-1]:.2f}]"
    first, second = (1e6 * median(column) for column in zip(*pairs, strict=True))
    apart = float((one.network.values - other.network.values).abs().max())
    return (
        f"{setting.name:20}{size:5}{first:10.0f}{second:10.0f}  {spread:>20}{apart:10.1e}  "
        f"{'yes' if waits else 'no':5}  {tag}"
    )


def _stack(setting: Setting, size: int, repeats: int, device: torch.device) -> Stack:
    from harness.core.paths import data_root
    from harness.experiment.trial import Trial
    from harness.training import device as devices
    from harness.training.stacked.stack import Stack

    devices.configure(device)
    fields: dict[str, Any] = {"batch_size": BATCH, "epochs": WARM_UP + repeats + 1}
    whole = replace(setting, fields=setting.fields | fields)
    trials = [
        Trial.of(resolved(whole, *OPTIMIZERS[i % 4], factor=1 + i / size, seed=i // 4 % 4))
        for i in range(size)
    ]
    return Stack([(str(i), trial) for i, trial in enumerate(trials)], data_root(), device)


def _epoch(stack: Stack, runner: StepRunner, epoch: int) -> float:
    """Returns the seconds of an update."""
    import time

    from harness.training.device import synchronize

    examples = stack.data.train.shuffled(stack.seeds, epoch)
    coefficients = stack.coefficients(epoch)
    streams = stack.streams(epoch)
    synchronize(stack.device)
    start = time.perf_counter()
    for _ in runner.run(examples, coefficients, streams):
        pass
    synchronize(stack.device)
    return (time.perf_counter() - start) / stack.steps_per_epoch


def _waits(stack: Stack, runner: StepRunner, epoch: int) -> bool:
    """Whether an epoch's updates wait for the device."""
    import torch

    examples = stack.data.train.shuffled(stack.seeds, epoch)
    coefficients = stack.coefficients(epoch)
    streams = stack.streams(epoch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in runner.run(examples, coefficients, streams):
            pass
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
