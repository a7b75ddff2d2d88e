"""Whether stacking changes what a grid says: 64 MNIST trials as one stack, and one by one under two
thread counts. Trial for trial, a stack may differ from one by one about as much as one by one
differs from itself under another number of threads; and the same trials diverge, and the same wins.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.stacks import MLP, Setting, resolved

if TYPE_CHECKING:
    from harness.experiment.trial import Trial

OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
RATES = (0.001, 0.01, 0.1, 1e12)
"""The last one makes losses infinite wherever a step follows the gradient's size."""
SEEDS = range(4)
METRIC = "test/accuracy"

Outcomes = dict[str, float | None]
"""A trial's accuracy after its last epoch; None where it diverged."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both differences, what diverged and who won."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.outcome", description=__doc__)
    parser.add_argument("--limit", type=int, help="training examples (default: all)")
    parser.add_argument("--epochs", type=int, default=3)
    chosen = parser.parse_args([] if arguments is None else arguments)
    trials = grid(chosen.epochs, chosen.limit)
    one, other, stacked = alone(trials, 1), alone(trials, 2), fused(trials)
    print(f"{len(trials)} trials, {chosen.epochs} epochs, {METRIC} after the last")
    print(f"one by one, 1 thread against 2: {_differences(one, other)}")
    print(f"one by one against a stack:     {_differences(one, stacked)}")
    for name, found in {"1 thread": one, "2 threads": other, "stack": stacked}.items():
        diverged = sum(value is None for value in found.values())
        best = max(value for value in found.values() if value is not None)
        winners = [key for key, value in found.items() if value == best]
        print(f"{name:10} {diverged} diverged; best {best:.4f}: {', '.join(winners)}")
    print(f"the same trials diverge: {_diverged(one) == _diverged(stacked)}")


def grid(epochs: int, limit: int | None) -> dict[str, Trial]:
    from harness.experiment.trial import Trial

    dataset = {"name": "mnist", "limit": limit}
    setting = Setting("outcome", {"dataset": dataset, "model": MLP, "epochs": epochs}, 0)
    return {
        f"{name} lr={lr:g} seed={seed}": Trial.of(resolved(setting, name, lr, 1.0, seed))
        for name, lr, seed in product(OPTIMIZERS, RATES, SEEDS)
    }


def alone(trials: dict[str, Trial], threads: int) -> Outcomes:
    import torch

    from harness.core.paths import data_root
    from harness.training.loop import train
    from harness.training.setup import set_up

    torch.set_num_threads(threads)
    return {
        key: _last(train(set_up(replace(trial, metrics=("accuracy",)), data_root())))
        for key, trial in trials.items()
    }


def fused(trials: dict[str, Trial]) -> Outcomes:
    import torch

    from harness.core.paths import data_root
    from harness.training.device import resolve
    from harness.training.stacked.loop import train_stack
    from harness.training.stacked.stack import Stack

    torch.set_num_threads(1)
    records: dict[str, list[Any]] = {key: [] for key in trials}
    device = resolve(next(iter(trials.values())).device)
    for item in train_stack(Stack(list(trials.items()), data_root(), device)):
        if isinstance(item, tuple):
            records[item[0]].append(item[1])
    return {key: _last(found) for key, found in records.items()}


def _last(records: Any) -> float | None:
    (*_, ended) = records
    found: float | None = ended.final.get(METRIC)
    return found


def _differences(one: Outcomes, other: Outcomes) -> str:
    pairs = ((one[key], other[key]) for key in one)
    found = sorted(abs(a - b) for a, b in pairs if a is not None and b is not None)
    equal = sum(not difference for difference in found)
    return (
        f"{equal} of {len(found)} equal, median {median(found):.4f}, "
        f"9 of 10 within {found[int(0.9 * len(found))]:.4f}, all within {found[-1]:.4f}"
    )


def _diverged(found: Outcomes) -> set[str]:
    return {key for key, value in found.items() if value is None}


if __name__ == "__main__":
    main(sys.argv[1:])
