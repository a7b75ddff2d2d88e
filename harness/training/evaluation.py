"""Evaluation: a model's outputs on a split, and the metrics computed from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import isfinite
from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from harness.components.base import Metric
from harness.core.seeding import generator, stream_seed
from harness.training.batch_sources import BatchSource
from harness.training.model_check import require_outputs
from harness.training.setup import TrainingContext, TrainingSetup

BATCH_NORM: Final = nn.modules.batchnorm._BatchNorm
STATISTICS_BATCHES: Final = 50
"""Batches from which batch normalisation takes its statistics anew, as the authors of schedule-free
optimizers do."""


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
            returned = setup.model(inputs)
            require_outputs(setup.trial.model, returned, len(inputs), setup.wanted_outputs)
            logits = returned.float()
            batches.append(ModelOutputs(logits, setup.loss(logits, targets), targets))
    setup.model.train()
    return predictions(batches, setup)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    return [part for part in model.modules() if isinstance(part, BATCH_NORM)]


@contextmanager
def evaluation_weights(setup: TrainingSetup, epoch: int) -> Iterator[None]:
    """While entered, the model has the weights and statistics to evaluate after an epoch.

    They are others than those in training where the optimizer averages them. Batch normalisation
    then takes its statistics anew, from the first batches of the epoch as they were trained: those
    that training has left are of the other weights.
    """
    with setup.optimizer.evaluation_weights():
        renews = setup.optimizer.averages and epoch > 0
        norms = batch_norms(setup.model) if renews else []
        if not norms:
            yield
            return
        buffers = [buffer for norm in norms for buffer in norm.buffers()]
        saved = [buffer.clone() for buffer in buffers]
        _renew_statistics(setup, epoch)
        yield
        for buffer, values in zip(buffers, saved, strict=True):
            buffer.copy_(values)


def _renew_statistics(setup: TrainingSetup, epoch: int) -> None:
    trial, n = setup.trial, len(setup.data.train)
    order = torch.randperm(n, generator=generator(trial.seed, "order", epoch))
    augmenting = generator(trial.seed, "augmentation", epoch, device=str(setup.device))
    first = order[: STATISTICS_BATCHES * trial.batch_size]
    batches = setup.data.train.batches(trial.batch_size, first)
    with torch.random.fork_rng([setup.device] if setup.device.type == "cuda" else []):
        torch.manual_seed(stream_seed(trial.seed, "dropout", epoch))
        update_bn((setup.augment(inputs, augmenting) for inputs, _ in batches), setup.model)


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
