"""Checks whether stacking changes the results of a grid of 64 MNIST trials.

The trials train as one stack, and one by one with two numbers of threads. Trial for trial, the
stack may differ from one by one about as much as one by one differs from itself with another
number of threads. The same trials must diverge, and the same trial must win.
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
"""The last one makes losses infinite where a step is proportional to the gradient."""
SEEDS = range(4)
METRIC = "test/accuracy"

Outcomes = dict[str, float | None]
"""A trial's accuracy after its last epoch; None where it diverged."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints both differences, and which trials diverged and won."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stacked_results", description=__doc__
    )
    parser.add_argument("--limit", type=int, help="training examples (default: all)")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args([] if arguments is None else arguments)
    trials = grid(options.epochs, options.limit)
    one, other = train_one_by_one(trials, 1), train_one_by_one(trials, 2)
    stacked = train_stacked(trials)
    print(f"{len(trials)} trials, {options.epochs} epochs, {METRIC} after the last")
    print(f"one by one, 1 thread against 2: {_differences(one, other)}")
    print(f"one by one against a stack:     {_differences(one, stacked)}")
    for name, outcomes in {"1 thread": one, "2 threads": other, "stack": stacked}.items():
        diverged = sum(value is None for value in outcomes.values())
        best = max(value for value in outcomes.values() if value is not None)
        winners = [key for key, value in outcomes.items() if value == best]
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


def train_one_by_one(trials: dict[str, Trial], threads: int) -> Outcomes:
    import torch

    from harness.core.paths import data_root
    from harness.training.loop import train
    from harness.training.setup import TrainingSetup

    torch.set_num_threads(threads)
    return {
        key: _last_value(train(TrainingSetup(replace(trial, metrics=("accuracy",)), data_root())))
        for key, trial in trials.items()
    }


def train_stacked(trials: dict[str, Trial]) -> Outcomes:
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
    return {key: _last_value(each) for key, each in records.items()}


def _last_value(records: Any) -> float | None:
    (*_, ended) = records
    value: float | None = ended.final.get(METRIC)
    return value


def _differences(one: Outcomes, other: Outcomes) -> str:
    pairs = ((one[key], other[key]) for key in one)
    differences = sorted(abs(a - b) for a, b in pairs if a is not None and b is not None)
    equal = sum(not difference for difference in differences)
    return (
        f"{equal} of {len(differences)} equal, median {median(differences):.4f}, "
        f"9 of 10 within {differences[int(0.9 * len(differences))]:.4f}, "
        f"all within {differences[-1]:.4f}"
    )


def _diverged(outcomes: Outcomes) -> set[str]:
    return {key for key, value in outcomes.items() if value is None}


if __name__ == "__main__":
    main(sys.argv[1:])
