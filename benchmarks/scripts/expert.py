"""A script as an expert writes it for one trial after another.

Examples are in memory and transformed once, batches are taken by index, optimizers are torch's
fused ones, no value is read within an epoch, and one `log_batch` writes all metrics of a trial.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.scripts.workloads import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    STORE,
    VAL_FRACTION,
    Workload,
    grid,
    network,
    start,
)

Split = tuple[Tensor, Tensor]
Trial = tuple[str, float, int]
Values = list[tuple[str, float, int]]


def load(workload: Workload) -> tuple[Split, Split]:
    """Returns training and test examples, transformed."""
    if workload.dataset == "mnist":
        from torchvision.datasets import MNIST

        root = os.environ.get("HARNESS_DATA", "data")
        both = [MNIST(root, train=train) for train in (True, False)]
        examples, held_out = (
            (one.data.float().div_(255).sub_(0.1307).div_(0.3081).unsqueeze(1), one.targets)
            for one in both
        )
        return examples, held_out
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    inputs, targets = load_breast_cancer(return_X_y=True)
    parts = [
        torch.tensor(part)
        for part in train_test_split(inputs, targets, test_size=0.2, random_state=0)
    ]
    mean, scale = parts[0].mean(0), parts[0].std(0, correction=0)
    train, test = (((part - mean) / scale).float() for part in parts[:2])
    return (train, parts[2]), (test, parts[3])


def optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    if name in ("sgd", "momentum"):
        momentum = 0.9 * (name == "momentum")
        return torch.optim.SGD(model.parameters(), lr, momentum=momentum, fused=True)
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(model.parameters(), lr, fused=True)


def losses(workload: Workload, outputs: Tensor, targets: Tensor) -> Tensor:
    if workload.loss == "bce":
        return functional.binary_cross_entropy_with_logits(
            outputs[:, 0], targets.float(), reduction="none"
        )
    return functional.cross_entropy(outputs, targets, reduction="none")


def accuracy(workload: Workload, outputs: Tensor, targets: Tensor) -> float:
    predicted = outputs[:, 0] > 0 if workload.loss == "bce" else outputs.argmax(1)
    return float((predicted == targets).float().mean())


def train(workload: Workload, data: tuple[Split, Split], trial: Trial) -> Values:
    """Trains a trial. Returns its metrics: name, value and epoch."""
    name, lr, seed = trial
    torch.manual_seed(seed)
    (inputs, targets), test = data
    held_out = int(VAL_FRACTION * len(targets))
    indices = torch.randperm(len(targets))
    train_indices = indices[held_out:]
    val = inputs[indices[:held_out]], targets[indices[:held_out]]
    model = network(workload)
    stepper = optimizer(name, model, lr)
    values: Values = []
    for epoch in range(1, workload.epochs + 1):
        order = train_indices[torch.randperm(len(train_indices))]
        model.train()
        outputs, each = [], []
        for batch in order.split(BATCH_SIZE):
            logits = model(inputs[batch])
            loss = losses(workload, logits, targets[batch])
            stepper.zero_grad(set_to_none=True)
            loss.mean().backward()
            stepper.step()
            outputs.append(logits.detach())
            each.append(loss.detach())
        values += _metrics(
            workload, "train", torch.cat(outputs), torch.cat(each), targets[order], epoch
        )
        model.eval()
        with torch.inference_mode():
            for split, (x, y) in {"val": val, "test": test}.items():
                logits = torch.cat([model(part) for part in x.split(EVAL_BATCH_SIZE)])
                values += _metrics(workload, split, logits, losses(workload, logits, y), y, epoch)
    return values


def _metrics(
    workload: Workload, split: str, outputs: Tensor, each: Tensor, targets: Tensor, epoch: int
) -> Values:
    return [
        (f"{split}_loss", float(each.mean()), epoch),
        (f"{split}_accuracy", accuracy(workload, outputs, targets), epoch),
    ]


def log(client: MlflowClient, experiment: str, trial: Trial, values: Values) -> None:
    run = client.create_run(experiment)
    now = time.time_ns() // 1_000_000
    metrics = [Metric(name, value, now, step) for name, value, step in values]
    params = [Param(name, str(v)) for name, v in _params(trial).items()]
    for begin in range(0, len(metrics), 1000):
        client.log_batch(run.info.run_id, metrics[begin : begin + 1000], params)
        params = []
    client.set_terminated(run.info.run_id)


def _params(trial: Trial) -> Mapping[str, object]:
    return dict(zip(("optimizer", "lr", "seed"), trial, strict=True))


def run(workload: Workload, trials: int) -> None:
    client = MlflowClient(STORE)
    experiment = client.create_experiment("benchmark")
    data = load(workload)
    for trial in grid(trials):
        log(client, experiment, trial, train(workload, data, trial))


if __name__ == "__main__":
    start(run)
