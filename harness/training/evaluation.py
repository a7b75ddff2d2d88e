"""Evaluation: a model's outputs on a split, and the measures taken from them."""

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
    """outputs [N, O] float32, targets [N] or [N, T], losses [N]; of one split, on the device."""

    outputs: Tensor
    targets: Tensor
    losses: Tensor

    @property
    def loss(self) -> float:
        """The mean over examples, summed in double precision."""
        return mean(self.losses)


def mean(values: Tensor) -> float:
    """The mean of a vector, summed in double precision where the device has it."""
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
    """A model's outputs on a split, in evaluation mode and without gradients.

    The model is left in training mode.
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
    prefix: str, scores: ModelOutputs, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """{"val/loss": …, "val/accuracy": …}: the loss, and each metric that is defined here."""
    values = {f"{prefix}/loss": scores.loss}
    for name, metric in metrics.items():
        value = metric.compute(scores.outputs, scores.targets)
        if isfinite(value):
            values[f"{prefix}/{name}"] = value
    return values


def compute_stacked_metrics(
    metrics: Mapping[str, Metric], outputs: Tensor, targets: Tensor
) -> dict[str, list[float]]:
    """Each metric of K models, NaN where it is undefined.

    outputs: [K, N, O]. targets: [K, N] or [K, N, T].
    """
    return {name: _of_each(metric, outputs, targets) for name, metric in metrics.items()}


def _of_each(metric: Metric, outputs: Tensor, targets: Tensor) -> list[float]:
    if metric.stacked is not None:
        values: list[float] = metric.stacked(outputs, targets).tolist()
        return values
    pairs = zip(outputs, targets, strict=True)
    return [metric.compute(own, wanted) for own, wanted in pairs]
