"""A script as tutorials write it.

It has a DataLoader that transforms example by example, `.item()` at every batch, and one
`log_metric` for each number.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import mlflow
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset, random_split

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

if TYPE_CHECKING:
    from torchvision.datasets import MNIST


def datasets(workload: Workload) -> tuple[MNIST | TensorDataset, MNIST | TensorDataset]:
    """Returns training and test examples."""
    if workload.dataset == "mnist":
        from torchvision import transforms
        from torchvision.datasets import MNIST

        change = transforms.Compose(
            [transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))]
        )
        root = os.environ.get("HARNESS_DATA", "data")
        both = [MNIST(root, train=train, transform=change) for train in (True, False)]
        return both[0], both[1]
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import StandardScaler

    inputs, targets = load_breast_cancer(return_X_y=True)
    parts = train_test_split(inputs, targets, test_size=0.2, random_state=0)
    scaler = StandardScaler().fit(parts[0])
    train, test = (torch.tensor(scaler.transform(part)).float() for part in parts[:2])
    return (
        TensorDataset(train, torch.tensor(parts[2])),
        TensorDataset(test, torch.tensor(parts[3])),
    )


def optimizer(name: str, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    if name in ("sgd", "momentum"):
        return torch.optim.SGD(model.parameters(), lr, momentum=0.9 * (name == "momentum"))
    kind = torch.optim.Adam if name == "adam" else torch.optim.AdamW
    return kind(model.parameters(), lr)


def loss_and_hits(workload: Workload, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    if workload.loss == "bce":
        logits = outputs[:, 0]
        loss = functional.binary_cross_entropy_with_logits(logits, targets.float())
        return loss, ((logits > 0) == targets).sum()
    return functional.cross_entropy(outputs, targets), (outputs.argmax(1) == targets).sum()


def one_pass(
    workload: Workload,
    model: nn.Module,
    loader: DataLoader[tuple[Tensor, ...]],
    step: torch.optim.Optimizer | None = None,
) -> tuple[float, float]:
    """Makes one pass, and trains if there is an optimizer. Returns mean loss and accuracy."""
    total, right, seen = 0.0, 0, 0
    model.train(step is not None)
    with torch.set_grad_enabled(step is not None):
        for inputs, targets in loader:
            loss, hits = loss_and_hits(workload, model(inputs), targets)
            if step is not None:
                step.zero_grad()
                loss.backward()
                step.step()
            total += loss.item() * len(targets)
            right += int(hits.item())
            seen += len(targets)
    return total / seen, right / seen


def run(workload: Workload, trials: int) -> None:
    mlflow.set_tracking_uri(STORE)
    mlflow.set_experiment("benchmark")
    whole, test = datasets(workload)
    for name, lr, seed in grid(trials):
        torch.manual_seed(seed)
        held_out = int(VAL_FRACTION * len(whole))
        train, val = random_split(whole, [len(whole) - held_out, held_out])
        loaders = {
            "train": DataLoader(train, BATCH_SIZE, shuffle=True),
            "val": DataLoader(val, EVAL_BATCH_SIZE),
            "test": DataLoader(test, EVAL_BATCH_SIZE),
        }
        model = network(workload)
        stepper = optimizer(name, model, lr)
        with mlflow.start_run():
            mlflow.log_params({"optimizer": name, "lr": lr, "seed": seed})
            for epoch in range(1, workload.epochs + 1):
                for split, loader in loaders.items():
                    step = stepper if split == "train" else None
                    loss, accuracy = one_pass(workload, model, loader, step)
                    mlflow.log_metric(f"{split}_loss", loss, step=epoch)
                    mlflow.log_metric(f"{split}_accuracy", accuracy, step=epoch)


if __name__ == "__main__":
    start(run)
