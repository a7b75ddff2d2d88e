"""Evaluation: a model's outputs on a split, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import NamedTuple

import torch
from torch import Tensor

from harness.components.base import Metric
from harness.training.batch_sources import BatchSource
from harness.training.setup import TrainingContext, TrainingSetup


class ModelOutputs(NamedTuple):
    """A model's outputs [N, O] in float32 on N examples, their losses [N], and targets [N] or
    [N, T]; for the models of a stack [K, N, …]. Outputs of a batch are as the model returns them;
    those of a split are as metrics take them (see `Loss.predict`)."""

    outputs: Tensor
    losses: Tensor
    targets: Tensor


def concatenate(batches: Sequence[ModelOutputs], dim: int = 0) -> ModelOutputs:
    """Returns the outputs of all batches. dim: that of the examples."""
    return ModelOutputs(*(torch.cat(tensors, dim) for tensors in zip(*batches, strict=True)))


def predictions(batches: Sequence[ModelOutputs], context: TrainingContext) -> ModelOutputs:
    """Returns the outputs of all batches, as metrics take them."""
    joined = concatenate(batches, context.examples_dim)
    return joined._replace(outputs=context.predict(joined.outputs))


def mean_loss(losses: Tensor) -> Tensor:
    """Returns the mean over the last dimension, summed in double precision if the device supports
    it."""
    return losses.mean(-1, dtype=None if losses.device.type == "mps" else torch.float64)


def evaluate(setup: TrainingSetup, source: BatchSource) -> ModelOutputs:
    """Returns a model's outputs on a split, in evaluation mode and without gradients.

    They are computed in float32, as by the model that is stored, whatever the trial's precision.
    Leaves the model in training mode.
    """
    batches = []
    setup.model.eval()
    with torch.inference_mode():
        for inputs, targets in source.batches(setup.trial.eval_batch_size):
            logits = setup.model(inputs).float()
            batches.append(ModelOutputs(logits, setup.loss(logits, targets), targets))
    setup.model.train()
    return predictions(batches, setup)


def compute_metrics(
    split: str, results: ModelOutputs, metrics: Mapping[str, Metric]
) -> dict[str, float]:
    """Returns the mean loss, and each metric that is defined here: {"val/loss": …, "val/f1": …}."""
    values = {f"{split}/loss": float(mean_loss(results.losses))}
    for name, metric in metrics.items():
        value = metric.compute(results.outputs, results.targets)
        if isfinite(value):
            values[f"{split}/{name}"] = value
    return values
