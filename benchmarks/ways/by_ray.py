"""The strong way's trials as Ray Core tasks, one a core, written to MLflow by the driver as they
come back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ray
from mlflow import MlflowClient

from benchmarks.ways.tasks import STORE, Work, grid, start

if TYPE_CHECKING:
    from benchmarks.ways.strong import Split, Trial, Values


@ray.remote(num_cpus=1)
def trained(work: Work, data: tuple[Split, Split], trial: Trial) -> tuple[Trial, Values]:
    import torch

    from benchmarks.ways.strong import train

    torch.set_num_threads(1)
    return trial, train(work, data, trial)


def run(work: Work, trials: int) -> None:
    from benchmarks.ways.strong import load, log

    client = MlflowClient(STORE)
    experiment = client.create_experiment("benchmark")
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    data = ray.put(load(work))
    waiting = [trained.remote(work, data, trial) for trial in grid(trials)]
    while waiting:
        (ready, *_), waiting = ray.wait(waiting)
        trial, values = ray.get(ready)
        log(client, experiment, trial, values)
    ray.shutdown()


if __name__ == "__main__":
    start(run)
