"""As an expert would write it for one trial after another: examples in memory, transformed once,
batches by index, torch's fused optimizers, no look at a number within an epoch, and all of a
trial's metrics in one `log_batch`."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

import torch
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.ways.tasks import (
    BATCH_SIZE,
    EVAL_BATCH_SIZE,
    STORE,
    VAL_FRACTION,
    Work,
    grid,
    network,
    start,
)

Split = tuple[Tensor, Tensor]
Trial = tuple[str, float, int]
Values = list[tuple[str, float, int]]


def load(work: Work) -> tuple[Split, Split]:
    """Training and test examples, transformed."""
    if work.dataset == "mnist":
        from torchvision.datasets import MNIST

        root = os.environ.get("HARNESS_DATA", "data")
        both = [MNIST(root, train=train) for train in (True, False)]
        train, test = (
            (one.data.float().div_(255).sub_(0.1307).div_(0.3081).unsqueeze(1), one.targets)
            for one in both
        )
        return train, test
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


def losses(work: Work, outputs: Tensor, targets: Tensor) -> Tensor:
    if work.loss == "bce":
        return functional.binary_cross_entropy_with_logits(
            outputs[:, 0], targets.float(), reduction="none"
        )
    return functional.cross_entropy(outputs, targets, reduction="none")


def accuracy(work: Work, outputs: Tensor, targets: Tensor) -> float:
    found = outputs[:, 0] > 0 if work.loss == "bce" else outputs.argmax(1)
    return float((found == targets).float().mean())


def train(work: Work, data: tuple[Split, Split], trial: Trial) -> Values:
    """One trial's metrics: name, value and epoch."""
    name, lr, seed = trial
    torch.manual_seed(seed)
    (inputs, targets), test = data
    held_out = int(VAL_FRACTION * len(targets))
    places = torch.randperm(len(targets))
    kept = places[held_out:]
    val = inputs[places[:held_out]], targets[places[:held_out]]
    model = network(work)
    stepper = optimizer(name, model, lr)
    values: Values = []
    for epoch in range(1, work.epochs + 1):
        order = kept[torch.randperm(len(kept))]
        model.train()
        outputs, each = [], []
        for batch in order.split(BATCH_SIZE):
            logits = model(inputs[batch])
            loss = losses(work, logits, targets[batch])
            stepper.zero_grad(set_to_none=True)
            loss.mean().backward()
            stepper.step()
            outputs.append(logits.detach())
            each.append(loss.detach())
        values += _told(work, "train", torch.cat(outputs), torch.cat(each), targets[order], epoch)
        model.eval()
        with torch.inference_mode():
            for split, (x, y) in {"val": val, "test": test}.items():
                logits = torch.cat([model(part) for part in x.split(EVAL_BATCH_SIZE)])
                values += _told(work, split, logits, losses(work, logits, y), y, epoch)
    return values


def _told(
    work: Work, split: str, outputs: Tensor, each: Tensor, targets: Tensor, epoch: int
) -> Values:
    return [
        (f"{split}_loss", float(each.mean()), epoch),
        (f"{split}_accuracy", accuracy(work, outputs, targets), epoch),
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


def run(work: Work, trials: int) -> None:
    client = MlflowClient(STORE)
    experiment = client.create_experiment("benchmark")
    data = load(work)
    for trial in grid(trials):
        log(client, experiment, trial, train(work, data, trial))


if __name__ == "__main__":
    start(run)
