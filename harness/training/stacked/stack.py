"""A stack: the network, optimizer and data of trials that train together."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harness.components.base import Batch
from harness.core.records import Outcome
from harness.core.seeding import generator
from harness.experiment.trial import (
    DEVICE_FIELDS,
    NO_FINGERPRINT,
    STACKABLE_FIELDS,
    TRIAL_FIELDS,
    Fingerprint,
    Trial,
)
from harness.training import device as devices
from harness.training.evaluation import ModelOutputs, batch_norms
from harness.training.learning_rate import LearningRate
from harness.training.own_step import STREAM, step_generator
from harness.training.resources import TooLarge, row_bytes, saved_tensors, step_bytes
from harness.training.setup import TrainingContext, initial_model
from harness.training.stacked.compatibility import verify, verify_step
from harness.training.stacked.data import load_stacked_splits
from harness.training.stacked.modules.draws import Draw
from harness.training.stacked.modules.dropout import EpochDropoutMasks
from harness.training.stacked.modules.forward_pass import (
    DropoutMasks,
    SharedInputs,
    Unstackable,
)
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.optimizer import (
    Coefficients,
    LearningRates,
    StackedOptimizer,
    order_by_rule,
)
from harness.training.stacked.own_step import StackedStep

AVERAGED_STATISTICS = (
    "an optimizer in it evaluates other weights than it trains, for which batch normalisation "
    "takes its statistics anew, trial by trial"
)
VERIFIED_EXAMPLES = 4
"""Test examples on which the stack's outputs are compared with those of its models."""
SIZED_TRIALS = 2
"""Trials on whose training step the memory that a trial adds is measured."""


@dataclass(slots=True)
class StackedTrial:
    """One trial of a stack.

    index: in all stacked tensors. values: the metrics of the current epoch. reason: why the trial
    leaves the stack, or "". outcome: with which it leaves.
    """

    key: str
    trial: Trial
    learning_rate: LearningRate
    index: int
    values: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    outcome: Outcome = Outcome.DIVERGED


class EpochStreams:
    """The random streams of one epoch: dropout masks and augmentations.

    seeds: without duplicates. seed_indices: int64 [K], the index of each trial's seed.
    like: a tensor of the parameters' dtype, on their device. context: has the augmentations.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        seed_indices: Tensor,
        epoch: int,
        like: Tensor,
        context: TrainingContext,
    ) -> None:
        self.masks = EpochDropoutMasks(seeds, seed_indices, epoch, like.dtype)
        self._augment = context.augment
        self._seed_indices = seed_indices
        self._step_generators = [
            step_generator(seed, epoch, str(like.device))
            for seed in (seeds if context.own_step else ())
        ]
        self._generators = [
            generator(seed, "augmentation", epoch, device=str(like.device))
            for seed in (seeds if context.augmentations else ())
        ]

    def draw(self, draw: Draw) -> Tensor:
        """Returns what each trial's training step draws by one call, [K, …]."""
        drawn = draw.from_each(self._step_generators)
        return drawn.index_select(0, self._seed_indices.to(drawn.device))

    def augment_batch(self, inputs: Tensor) -> Tensor:
        """Augments the batches [seeds, B, …], each exactly as if its seed trained alone."""
        if not self._generators:
            return inputs
        pairs = zip(inputs, self._generators, strict=True)
        return torch.stack([self._augment(x, stream) for x, stream in pairs])

    def state(self) -> dict[str, Any]:
        """Returns what `load` needs to continue within the epoch."""
        augmentation = [stream.get_state() for stream in self._generators]
        step = [stream.get_state() for stream in self._step_generators]
        return {"masks": self.masks.state(), "augmentation": augmentation, STREAM: step}

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues within the epoch. Raises RuntimeError if the state is of another device."""
        self.masks.load(state["masks"])
        for stream, saved in zip(self._generators, state["augmentation"], strict=True):
            stream.set_state(saved)
        for stream, saved in zip(self._step_generators, state.get(STREAM, ()), strict=True):
            stream.set_state(saved)


class Stack(TrainingContext):
    """Trials that train together. It is built once, and then sized, measured and trained.

    trials: with their keys, alike but for `STACKABLE_FIELDS`. memory_limit: the bytes that it may
    take; it is checked before the rows of parameters are allocated. None for no limit. planned: the
    checksums of what it reads.

    active: the trials that still train. keys: those of all trials that have a row, in order.
    outputs: the latest outputs of each split. final_metadata: metadata that is known only
    after training, for `Ended`.

    When a trial leaves, its row stays until half of the rows belong to trials that have left. The
    stack then removes those rows, which may change how the matrix products of the others are
    rounded. Until then, the results of the others do not change by a single bit.

    Raises Unstackable if the model or the data cannot be stacked, TooLarge if the rows alone take
    more than the memory limit.
    """

    checkpoint_format = 3
    examples_dim = 1

    def __init__(
        self,
        trials: Sequence[tuple[str, Trial]],
        data_root: Path,
        device: torch.device,
        memory_limit: int | None = None,
        planned: Fingerprint = NO_FINGERPRINT,
    ) -> None:
        devices.configure(device)
        first = trials[0][1]
        _check_alike([trial for _, trial in trials])
        self.trials = tuple(trials)
        self.seeds = list(dict.fromkeys(trial.seed for _, trial in trials))
        self.data = load_stacked_splits(first, self.seeds, data_root, device, planned.data)
        self._model = initial_model(first, self.data.by_seed[0], planned.weights)
        super().__init__(first, device, self.data.by_seed[0], self._model)
        if memory_limit is not None:
            self._check_rows(memory_limit)
        models = {first.seed: self._model}
        for seed in self.seeds[1:]:
            seeded = replace(first, seed=seed)
            models[seed] = initial_model(seeded, self.data.by_seed[0], planned.weights)
        order = order_by_rule([trial for _, trial in trials], self._model)
        self.active = [
            StackedTrial(key, trial, LearningRate(trial.scheduler, trial.lr, self.horizon), index)
            for index, (key, trial) in enumerate(trials[i] for i in order)
        ]
        self.keys = [trial.key for trial in self.active]
        by_trial = [models[trial.trial.seed] for trial in self.active]
        self.network = StackedNetwork(by_trial, device)
        self.optimizer = self._new_optimizer()
        if self.optimizer.averages and batch_norms(self._model):
            raise Unstackable(AVERAGED_STATISTICS)
        seed_indices = [self.seeds.index(trial.trial.seed) for trial in self.active]
        self.seed_indices = torch.tensor(seed_indices).to(device)
        self.shared_inputs = SharedInputs.of(self.seed_indices, len(self.seeds))
        self.learning_rates = LearningRates(
            [t.learning_rate for t in self.active], self.steps_per_epoch, self.network.values.dtype
        )
        self.outputs: dict[str, ModelOutputs] = {}
        self.final_metadata: dict[str, Any] = {}
        test = self.data.evaluated["test"]
        batch = Batch(*next(test.in_order(VERIFIED_EXAMPLES)))
        shared = test.shared_inputs(self.seed_indices)
        verify(self.network, by_trial, batch.inputs, shared, in_training=self.own_step is None)
        self.stacked_step: StackedStep | None = None
        if self.own_step is not None:
            self.stacked_step = StackedStep(self.own_step, self._model, device)
            seeds = [trial.trial.seed for trial in self.active]
            expanded = Batch(*map(shared.expand, batch))
            verify_step(self.stacked_step, self.network, by_trial, seeds, expanded)

    def state(self) -> dict[str, Any]:
        """Returns the trials that have ended too: where numbers lie in memory decides how they are
        rounded, so a stack that resumes needs the same layout."""
        return {
            "rows": list(self.keys),
            "living": [trial.key for trial in self.active],
            "network": self.network.state(),
            "updates": self.optimizer.state(),
            "rates": self.learning_rates.state(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Loads the state of a stack that began with the same trials."""
        self._restrict(state["rows"], state["living"])
        self.network.load(state["network"])
        self.optimizer.load(state["updates"])
        self.learning_rates.load(state["rates"])

    def bytes_per_trial(self) -> int:
        """Measures the memory that each trial takes in training, on copies of two trials."""
        keys = [key for key, _ in self.trials[:SIZED_TRIALS]]
        chosen = [index for index, key in enumerate(self.keys) if key in keys]
        indices = torch.tensor(chosen, device=self.device)
        network = self.network.copy(indices)
        present, seed_indices = self.seed_indices[indices].unique(return_inverse=True)
        seeds = [self.seeds[i] for i in present.tolist()]
        shared = SharedInputs.of(seed_indices, len(seeds))
        streams = EpochStreams(seeds, seed_indices, 1, network.values, self)
        size = min(self.trial.batch_size, len(self.data.train))
        examples = torch.arange(size, device=self.device).expand(len(seeds), -1)
        inputs, targets = self.data.train.gather(examples)
        with saved_tensors() as saved:
            inputs = streams.augment_batch(inputs)
            targets = shared.expand(targets)
            logits, losses = self.training_pass(
                network, inputs, targets, shared, streams.masks, streams
            )
        saved.pop(network.values.untyped_storage().data_ptr(), None)
        example = sum(tensor[0, 0].nbytes for tensor in (logits, losses, targets))
        return row_bytes(network.values[0].nbytes, self.device) + step_bytes(
            sum(saved.values()) // len(network), example, len(self.data.train), self.device
        )

    @contextmanager
    def dry_run(self) -> Iterator[None]:
        """Undoes on exit what steps inside have done; for use before training starts.

        Parameters and buffers are restored to the last bit, and optimizers are rebuilt.
        """
        tensors = [self.network.values, *self.network.buffers.values()]
        copies = [tensor.clone() for tensor in tensors]
        try:
            yield
        finally:
            for tensor, saved in zip(tensors, copies, strict=True):
                tensor.copy_(saved)
            self.optimizer = self._new_optimizer()
            devices.configure(self.device)  # The peak memory is that of training.

    def leave(self) -> list[StackedTrial]:
        """Removes, and returns, the trials that have a reason to leave."""
        leaving = [trial for trial in self.active if trial.reason]
        self.active = [trial for trial in self.active if not trial.reason]
        if self.active and 2 * len(self.active) <= len(self.network):
            self._compact()
        return leaving

    def _restrict(self, keys: Sequence[str], active: Collection[str]) -> None:
        """Continues with the rows of these keys alone, of which some still train.

        Raises ValueError if they are not of this stack, or in another order.
        """
        present = [key for key in self.keys if key in keys]
        if present != list(keys) or not active or not set(active) <= set(keys):
            raise ValueError("it is of other trials")
        if len(keys) < len(self.keys):
            self.active = [trial for trial in self.active if trial.key in keys]
            self._compact()
        self.active = [trial for trial in self.active if trial.key in active]

    def coefficients(self, epoch: int) -> Coefficients:
        """Returns the coefficients of all updates of an epoch (from 1)."""
        updates = (epoch - 1) * self.steps_per_epoch
        return self.optimizer.coefficients(self.learning_rates.of_epoch(epoch), updates)

    def streams(self, epoch: int) -> EpochStreams:
        """Returns the random streams of an epoch (from 1), at their beginning."""
        return EpochStreams(self.seeds, self.seed_indices, epoch, self.network.values, self)

    def step(
        self,
        examples: Tensor,
        coefficients: Coefficients,
        masks: DropoutMasks,
        streams: EpochStreams | None = None,
    ) -> ModelOutputs:
        """Updates every trial by one batch. Returns its logits, losses and targets.

        examples: int64 [seeds, B], each seed's batch in the training split. streams: of
        augmentations, and of a training step that draws; None for a trial without them.
        """
        inputs, targets = self.data.train.gather(examples)
        targets = self.shared_inputs.expand(targets)
        if streams is not None:
            inputs = streams.augment_batch(inputs)
        logits, losses = self.training_pass(
            self.network, inputs, targets, self.shared_inputs, masks, streams
        )
        self.network.backward(losses)
        self.optimizer.step(coefficients)
        return ModelOutputs(logits.detach(), losses.detach(), targets)

    def state_tensors(self) -> list[Tensor]:
        """The tensors that an update changes and the next one reads."""
        return [self.network.values, *self.network.buffers.values(), *self.optimizer.tensors()]

    def training_pass(
        self,
        network: StackedNetwork,
        inputs: Tensor,
        targets: Tensor,
        shared: SharedInputs,
        masks: DropoutMasks,
        streams: EpochStreams | None,
    ) -> tuple[Tensor, Tensor]:
        """Returns logits [K, B, O] and losses [K, B] of a training batch, computed at the trials'
        precision and at least in float32.

        inputs: [S, B, …]. targets: [K, B, …].
        """
        if self.stacked_step is None:
            with self.autocast:
                logits = network.forward(inputs, shared, masks).float()
            return logits, self.losses(logits, targets)
        batch = Batch(shared.expand(inputs), targets)
        with self.autocast:
            logits, losses = self.stacked_step.run(
                network.leaves(),
                network.buffers,
                batch,
                masks,
                None if streams is None else streams.draw,
            )
        return logits.float(), losses.float()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the losses [K, B] of logits [K, B, O]; a loss sees each example by itself."""
        return self.loss(logits.flatten(0, 1), targets.flatten(0, 1)).view(logits.shape[:2])

    def metadata(self) -> dict[str, Any]:
        """Adds the number of stacked trials to what a single trial has."""
        return super().metadata() | {"fused": len(self.trials), "exclusive": False}

    def _new_optimizer(self) -> StackedOptimizer:
        return StackedOptimizer(self.network, [t.trial for t in self.active], self._model)

    def _check_rows(self, memory_limit: int) -> None:
        """Raises TooLarge if the rows alone take more than the limit, before they are allocated."""
        parameters = sum(p.nbytes for p in self._model.parameters())
        each = max(1, row_bytes(parameters, self.device))
        if len(self.trials) * each > memory_limit:
            raise TooLarge(max(1, memory_limit // each))

    def _compact(self) -> None:
        """Drops the rows of trials that have left."""
        self.keys = [trial.key for trial in self.active]
        indices = [trial.index for trial in self.active]
        chosen = torch.tensor(indices, device=self.device)
        self.network.select(chosen)
        self.optimizer.select(chosen)
        self.learning_rates.select(indices)
        self.outputs = {
            split: ModelOutputs(*(tensor[chosen] for tensor in outputs))
            for split, outputs in self.outputs.items()
        }
        self.seed_indices = self.seed_indices[chosen]
        self.shared_inputs = SharedInputs.of(self.seed_indices, len(self.seeds))
        for index, trial in enumerate(self.active):
            trial.index = index


def _check_alike(trials: Sequence[Trial]) -> None:
    """Raises ValueError if the trials differ in a field that a stack cannot vary."""
    for name in TRIAL_FIELDS:
        if name in STACKABLE_FIELDS or name in DEVICE_FIELDS:
            continue
        if any(getattr(trial, name) != getattr(trials[0], name) for trial in trials):
            raise ValueError(f"the trials of a stack differ in {name}")
