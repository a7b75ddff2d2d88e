"""Builds what a trial trains with: data, model, optimizer, learning rate, loss and metrics."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from harness.components.base import DataInfo, Horizon, LossFunction, Metric, Task
from harness.components.registry import find, named_components
from harness.core.errors import InputError
from harness.core.seeding import stream_seed
from harness.experiment.batches import single_example_problem
from harness.experiment.trial import NO_FINGERPRINT, Fingerprint, Trial
from harness.training import device as devices
from harness.training.data import Splits, load_splits
from harness.training.learning_rate import LearningRate
from harness.training.model_check import wanted_outputs, zero_examples
from harness.training.optimizer import TrialOptimizer, undecayed_names
from harness.training.own_step import OwnStep
from harness.training.planned_files import load_planned

STORED_INPUTS = 64
"""Test inputs that are stored with a trial's test outputs."""


class TrainingContext(ABC):
    """What a single trial and a stack of trials need alike.

    trial: the first of a stack. own_step: a training step of the user's own, or None.
    wanted_outputs: see `model_check`. metrics: computed at each evaluation. all_metrics: every
    registered metric that is defined for this data, computed at the end. autocast: the context for
    forward passes in training, at the trial's precision; it can be entered again. examples: the
    size of each split. parameter_count: of one trial's model. stored_outputs: how many of the test
    outputs are stored; None for all. Those of an autoencoder are as many values as the data.

    checkpoint_format: raised when older checkpoints can no longer be read. examples_dim: the
    dimension of a batch's outputs that counts examples.
    """

    checkpoint_format: ClassVar[int]
    examples_dim: ClassVar[int]

    def __init__(self, trial: Trial, device: torch.device, data: Splits, model: nn.Module) -> None:
        problem = single_example_problem(trial.model, data.info, len(data.train), trial.batch_size)
        if problem is not None:
            raise InputError(problem)
        self.trial = trial
        self.device = device
        self.parameter_count = sum(p.numel() for p in model.parameters())
        self.loss: LossFunction = trial.loss.component.build(trial.loss.options)
        self.wanted_outputs = wanted_outputs(trial, data.info)
        self.own_step = OwnStep.of(trial, data.info)
        self.metrics = {name: cast("Metric", find("metrics", name)) for name in trial.metrics}
        self.all_metrics = _applicable_metrics(data)
        self.augmentations = [choice.component.build(choice.options) for choice in trial.augment]
        self.autocast = devices.autocast(device, trial.precision)
        evaluated = data.evaluated().items()
        self.examples = {"train": len(data.train)} | {k: len(v) for k, v in evaluated}
        self.steps_per_epoch = -(-len(data.train) // trial.batch_size)
        is_autoencoder = data.info.task is Task.AUTOENCODING
        self.stored_outputs = STORED_INPUTS if is_autoencoder else None
        self.horizon = Horizon(trial.epochs, self.steps_per_epoch)

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Returns what `load` needs to resume after a whole epoch; not copies."""

    @abstractmethod
    def load(self, state: Mapping[str, Any]) -> None:
        """Loads a state. Raises RuntimeError, ValueError or KeyError if it is of something else."""

    def metadata(self) -> dict[str, Any]:
        """Describes the run for its provenance, as JSON types."""
        return devices.metadata(self.device) | {
            "precision": self.trial.precision,
            "parameters": self.parameter_count,
            "examples": self.examples,
        }

    def predict(self, outputs: Tensor) -> Tensor:
        """Returns what metrics take, […, O], of what models return for the examples of a split."""
        if outputs.ndim > self.examples_dim + 2:
            outputs = outputs.flatten(self.examples_dim + 1)
        predict = self.trial.loss.component.predict
        return outputs if predict is None else predict(outputs)

    def augment(self, inputs: Tensor, generator: torch.Generator) -> Tensor:
        """Applies the trial's augmentations to a batch, one after another."""
        for augmentation in self.augmentations:
            inputs = augmentation(inputs, generator)
        return inputs


class TrainingSetup(TrainingContext):
    """All that a single trial trains with, on a device (by default the trial's own).

    data: its splits, if they are already loaded. planned: the checksums of what it reads. Raises
    InputError if the device or a file is missing, DataChanged if a file is not the planned one.
    """

    checkpoint_format = 1
    examples_dim = 0

    def __init__(
        self,
        trial: Trial,
        data_root: Path,
        device: torch.device | None = None,
        data: Splits | None = None,
        planned: Fingerprint = NO_FINGERPRINT,
    ) -> None:
        device = device or devices.resolve(trial.device)
        devices.configure(device)
        self.data = data or load_splits(trial, data_root, device, planned.data)
        self.model = initial_model(trial, self.data, planned.weights).to(device)
        super().__init__(trial, device, self.data, self.model)
        if (
            device.type == "cpu"
            and trial.model.component.channels_last
            and trial.optimizer.component.takes_any_layout(trial.optimizer.options)
        ):
            self.model = self.model.to(memory_format=torch.channels_last)
        without_decay = undecayed_names(trial.optimizer, self.model)
        named = self.model.named_parameters()
        self.optimizer = TrialOptimizer(trial.optimizer, named, trial.lr, without_decay)
        self.learning_rate = LearningRate(trial.scheduler, trial.lr, self.horizon)

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "learning_rate": self.learning_rate.state(),
            **self.optimizer.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load(state)
        self.learning_rate.load(state["learning_rate"])


def initial_model(trial: Trial, data: Splits, checksum: str = "") -> nn.Module:
    """Returns the untrained model on the CPU: its weights depend on the seed, not on the device.

    checksum: of its file of pretrained weights, as planned; "" accepts any.
    """
    model, options = trial.model.component, trial.model.options

    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(trial.seed, "init"))
            outputs = trial.loss.component.outputs(data.info)
            built = model.build(options, data.info, outputs)
            if any(map(nn.parameter.is_lazy, built.parameters())):
                _initialise_lazy(built, data.info)
            return built

    name = f"model {trial.model.name}"
    return load_planned(name, checksum, lambda: model.fingerprint(options), build)


def _initialise_lazy(model: nn.Module, info: DataInfo) -> None:
    """Gives the layers of torch's lazy modules their shapes and weights, by two examples of
    zeros."""
    with torch.no_grad():
        model.eval()(zero_examples(info))
    model.train()


def _applicable_metrics(data: Splits) -> dict[str, Metric]:
    metrics = {name: cast("Metric", metric) for name, metric in named_components("metrics").items()}
    return {
        name: metric
        for name, metric in metrics.items()
        if data.info.task in metric.tasks and data.info.classes >= metric.min_classes
    }
