"""Evaluation: a model's outputs on a split, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor, nn

from harness.components.base import LossFunction, Metric
from harness.training.batch_sources import BatchSource


@dataclass(frozen=True, slots=True)
class ModelOutputs:
    """A model's outputs [N, O] in float32 on a split, the targets [N] or [N, T], and losses [N]."""

    outputs: Tensor
    targets: Tensor
    losses: Tensor

    @property
    def loss(self) -> float:
        """The mean loss over examples, summed in double precision."""
        return mean(self.losses)


def mean(values: Tensor) -> float:
    """Returns the mean of a vector, summed in double precision if the device supports it."""
    if values.device.type == "mps":
        return float(values.mean())
    return float(values.mean(dtype=torch.float64))


def evaluate(
    model: nn.Module,
    source: BatchSource,
    loss: LossFunction,
    batch_size: int,
    autocast: AbstractContextManager[None],
) -> ModelOutputs:
    """Returns a model's outputs on a split, in evaluation mode and without gradients.

    Leaves the model in training mode.
    """
    outputs: list[Tensor] = []
    losses: list[Tensor] = []
    targets: list[Tensor] = []
    model.eval()
    with torch.inference_mode():
        for inputs, wanted in source.batches(batch_size):
            with autocast:
                logits = model(inputs).float()
            outputs.append(logits)
            losses.append(loss(logits, wanted))
            targets.append(wanted)
    model.train()
    return ModelOutputs(torch.cat(outputs), torch.cat(targets), torch.cat(losses))


def compute_metrics(
    split: str, results: ModelOutputs, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Returns the mean loss, and each metric that is defined here: {"val/loss": …, "val/f1": …}."""
    values = {f"{split}/loss": results.loss}
    for name, metric in metrics.items():
        value = metric.compute(results.outputs, results.targets)
        if isfinite(value):
            values[f"{split}/{name}"] = value
    return values


def compute_stacked_metrics(
    metrics: Mapping[str, Metric], outputs: Tensor, targets: Tensor
) -> dict[str, list[float]]:
    """Returns each metric of K models; NaN where it is undefined.

    outputs: [K, N, O]. targets: [K, N] or [K, N, T].
    """
    values: dict[str, list[float]] = {}
    for name, metric in metrics.items():
        if metric.stacked is not None:
            values[name] = metric.stacked(outputs, targets).tolist()
        else:
            pairs = zip(outputs, targets, strict=True)
            values[name] = [metric.compute(*pair) for pair in pairs]
    return values
