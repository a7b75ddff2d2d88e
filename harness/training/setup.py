"""Builds what a trial trains with: data, model, optimizer, learning rate, loss and metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from harness.components.base import AugmentationFunction, Horizon, LossFunction, Metric
from harness.components.registry import components, find
from harness.core.seeding import stream_seed
from harness.experiment.trial import Trial
from harness.training import device as devices
from harness.training.data import Splits, load_splits
from harness.training.learning_rate import LearningRate


@dataclass(slots=True)
class TrainingSetup:
    """All objects of a training run.

    metrics: computed at each evaluation. all_metrics: computed at the end.
    """

    trial: Trial
    device: torch.device
    data: Splits
    model: nn.Module
    optimizer: torch.optim.Optimizer
    learning_rate: LearningRate
    loss: LossFunction
    metrics: dict[str, Metric]
    all_metrics: dict[str, Metric]
    augment: tuple[AugmentationFunction, ...]
    steps_per_epoch: int

    def metadata(self) -> dict[str, Any]:
        """Describes the run for its provenance, as JSON types."""
        evaluated = self.data.evaluated().items()
        return devices.metadata(self.device) | {
            "precision": self.trial.precision,
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "examples": {"train": len(self.data.train)} | {k: len(v) for k, v in evaluated},
        }


def set_up(
    trial: Trial,
    data_root: Path,
    device: torch.device | None = None,
    data: Splits | None = None,
) -> TrainingSetup:
    """Builds all that a trial trains with, on a device (by default the trial's own).

    data: its splits, if they are already loaded. Raises InputError if the device or a file is
    missing.
    """
    device = device or devices.resolve(trial.device)
    devices.configure(device)
    data = data or load_splits(trial, data_root, device)
    model = initial_model(trial, data).to(device)
    if device.type == "cpu" and trial.model.component.channels_last:
        model = model.to(memory_format=torch.channels_last)
    steps = -(-len(data.train) // trial.batch_size)
    return TrainingSetup(
        trial=trial,
        device=device,
        data=data,
        model=model,
        optimizer=trial.optimizer.component.build(
            trial.optimizer.options, model.parameters(), trial.lr
        ),
        learning_rate=LearningRate(trial.scheduler, trial.lr, Horizon(trial.epochs, steps)),
        loss=trial.loss.component.build(trial.loss.options),
        metrics=trial_metrics(trial),
        all_metrics=applicable_metrics(data),
        augment=build_augmentations(trial),
        steps_per_epoch=steps,
    )


def initial_model(trial: Trial, data: Splits) -> nn.Module:
    """Returns the untrained model on the CPU: its weights depend on the seed, not on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(stream_seed(trial.seed, "init"))
        outputs = trial.loss.component.outputs(data.info)
        return trial.model.component.build(trial.model.options, data.info, outputs)


def trial_metrics(trial: Trial) -> dict[str, Metric]:
    """Returns the metrics that a trial names, which are computed at each evaluation."""
    return {name: cast("Metric", find("metrics", name)) for name in trial.metrics}


def applicable_metrics(data: Splits) -> dict[str, Metric]:
    """Returns every registered metric that is defined for this data."""
    metrics = {name: cast("Metric", metric) for name, metric in components("metrics").items()}
    return {
        name: metric
        for name, metric in metrics.items()
        if data.info.task in metric.tasks and len(data.info.classes) >= metric.min_classes
    }


def build_augmentations(trial: Trial) -> tuple[AugmentationFunction, ...]:
    """Returns a trial's augmentations, in their order."""
    return tuple(choice.component.build(choice.options) for choice in trial.augment)


def augment_batch(
    augmentations: Sequence[AugmentationFunction], inputs: Tensor, generator: torch.Generator
) -> Tensor:
    """Applies augmentations to a batch, one after another."""
    for augmentation in augmentations:
        inputs = augmentation(inputs, generator)
    return inputs
