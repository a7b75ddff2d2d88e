"""Runs the expert's trials as Ray Core tasks, one a core. The driver writes results to MLflow."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import ray
from mlflow import MlflowClient

from benchmarks.scripts.workloads import STORE, Workload, grid, start

if TYPE_CHECKING:
    from benchmarks.scripts.expert import Split, Trial, Values


@ray.remote(num_cpus=1)
def train_trial(
    workload: Workload, data: tuple[Split, Split], trial: Trial
) -> tuple[Trial, Values]:
    import torch

    from benchmarks.scripts.expert import train

    torch.set_num_threads(1)
    return trial, train(workload, data, trial)


def run(workload: Workload, trials: int) -> None:
    from benchmarks.scripts.expert import load, log

    client = MlflowClient(STORE)
    experiment = client.create_experiment("benchmark")
    ray.init(
        address="local", include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
    )
    data = ray.put(load(workload))
    waiting = [train_trial.remote(workload, data, trial) for trial in grid(trials)]
    while waiting:
        (ready, *_), waiting = ray.wait(waiting)
        trial, values = ray.get(ready)
        log(client, experiment, trial, values)
    ray.shutdown()


if __name__ == "__main__":
    start(run)
