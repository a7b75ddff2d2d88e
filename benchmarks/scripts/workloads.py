"""The architectures, data sets and grids that all scripts train."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count, islice, product
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

BATCH_SIZE = 64
EVAL_BATCH_SIZE = 1024
VAL_FRACTION = 0.1
STORE = "sqlite:///mlruns/mlflow.db"
OPTIMIZERS = ("sgd", "momentum", "adam", "adamw")
RATES = (0.001, 0.003, 0.01, 0.03)


@dataclass(frozen=True)
class Workload:
    """One architecture on one data set. model, loss: as in an experiment file."""

    name: str
    dataset: str
    model: dict[str, Any]
    loss: str
    epochs: int


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("breast_cancer", "breast_cancer", {"name": "mlp", "hidden": [24, 24]}, "bce", 50),
        Workload("mnist_mlp", "mnist", {"name": "mlp", "hidden": [24, 24]}, "cross_entropy", 3),
        Workload("mnist_bn_cnn", "mnist", {"name": "bn_cnn"}, "cross_entropy", 1),
        Workload("mnist_cnn", "mnist", {"name": "cnn"}, "cross_entropy", 1),
    )
}


def grid(trials: int) -> Iterator[tuple[str, float, int]]:
    """Yields the optimizer, learning rate and seed of the first `trials` trials of the grid."""
    settings = ((name, lr, seed) for seed in count() for lr, name in product(RATES, OPTIMIZERS))
    return islice(settings, trials)


def network(workload: Workload) -> nn.Module:
    """Builds the architecture in torch alone."""
    from torch import nn

    if workload.model["name"] == "bn_cnn":
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding="same", bias=False),
            nn.AvgPool2d(2),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 16, 3, padding="same"),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(16 * 14 * 14, 10),
        )
    if workload.model["name"] == "cnn":
        return nn.Sequential(
            nn.Conv2d(1, 32, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, padding="same"),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 7 * 7, 100),
            nn.ReLU(),
            nn.Linear(100, 10),
        )
    features, outputs = (30, 1) if workload.dataset == "breast_cancer" else (784, 10)
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(features, 24),
        nn.ReLU(),
        nn.Linear(24, 24),
        nn.ReLU(),
        nn.Linear(24, outputs),
    )


def start(run: Callable[[Workload, int], None]) -> None:
    """Runs a script with the workload and the number of trials that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("trials", type=int)
    options = parser.parse_args()
    run(WORKLOADS[options.workload], options.trials)
