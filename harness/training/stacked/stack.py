"""A stack of trials, put together: network, updates, data, and what each trial alone has."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from harness.components.base import AugmentationFunction, Horizon, LossFunction, Metric
from harness.components.registry import find
from harness.core.records import Outcome
from harness.core.seeding import generator
from harness.experiment.trial import DEVICE_FIELDS, STACKABLE_FIELDS, TRIAL_FIELDS, Trial
from harness.training import device as devices
from harness.training.learning_rate import LearningRate
from harness.training.setup import augment_batch, build_augmentations, initial_model, metrics_for
from harness.training.stacked.compatibility import verify
from harness.training.stacked.data import load_stacked_splits
from harness.training.stacked.modules.dropout import EpochDropoutMasks
from harness.training.stacked.modules.forward_pass import DropoutMasks, SharedInputs
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.optimizer import (
    EpochCoefficients,
    LearningRates,
    StackedOptimizer,
    UpdateCoefficients,
    order_by_rule,
)

PROBED_EXAMPLES = 4


def _as_they_are(inputs: Tensor) -> Tensor:
    return inputs


@dataclass(slots=True)
class StackedTrial:
    """One trial of a stack. row: its place in everything that is stacked. values: of the epoch
    so far. reason: why it leaves, or ""; outcome: as what."""

    key: str
    trial: Trial
    rate: LearningRate
    row: int
    values: dict[str, float] = field(default_factory=dict)
    reason: str = ""
    outcome: Outcome = Outcome.DIVERGED


class Stack:
    """Trials that train together.

    members: those that still train. rows: the keys of all that have a row. scores: by split, the
    latest outputs [K, N, O], targets [K, N, …] and losses [K, N]. found: what is found in training,
    for `Ended.facts`. A trial that leaves gives up its row only when half of the rows or more are
    given up: the others then move together, and where numbers lie in memory decides how a matrix
    product rounds. Until then they are, to the last bit, what they would be without it.
    Raises Unstackable where their model or data cannot be stacked.
    """

    def __init__(
        self, trials: Sequence[tuple[str, Trial]], data_root: Path, device: torch.device
    ) -> None:
        first = trials[0][1]
        _check([trial for _, trial in trials])
        self.trial = first
        self.device = device
        self.size = len(trials)
        self.seeds = list(dict.fromkeys(trial.seed for _, trial in trials))
        self.pools = load_stacked_splits(first, self.seeds, data_root, device)
        models = {seed: self._initial_model(seed) for seed in self.seeds}
        order = order_by_rule([trial for _, trial in trials], models[first.seed])
        self.steps_per_epoch = -(-len(self.pools.train) // first.batch_size)
        horizon = Horizon(first.epochs, self.steps_per_epoch)
        self.members = [
            StackedTrial(key, trial, LearningRate(trial.scheduler, trial.lr, horizon), row)
            for row, (key, trial) in enumerate(trials[i] for i in order)
        ]
        own = [models[member.trial.seed] for member in self.members]
        self.rows = [member.key for member in self.members]
        self.network = StackedNetwork(own, device)
        self.updates = StackedOptimizer(self.network, [m.trial for m in self.members], own[0])
        self.owner = torch.tensor([self.seeds.index(m.trial.seed) for m in self.members]).to(device)
        self.sharing = SharedInputs.of(self.owner, len(self.seeds))
        self.scores: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
        self.found: dict[str, Any] = {}
        self.rates = LearningRates(
            [m.rate for m in self.members], self.steps_per_epoch, self.network.values.dtype
        )
        self.loss: LossFunction = first.loss.component.build(first.loss.options)
        self.augment = build_augmentations(first)
        self.metrics = {name: cast("Metric", find("metrics", name)) for name in first.metrics}
        self.all_metrics = metrics_for(self.pools.seeds[0])
        self.parameters = sum(place.size for place in self.network.places)
        inputs, _ = next(self.pools.test.in_order(PROBED_EXAMPLES))
        verify(self.network, own, inputs, self.pools.test.sharing(self.owner))

    def leave(self) -> list[StackedTrial]:
        """Take out, and return, the members that have a reason to go."""
        leaving = [member for member in self.members if member.reason]
        self.members = [member for member in self.members if not member.reason]
        if self.members and 2 * len(self.members) <= len(self.network):
            self._close_ranks()
        return leaving

    def go_to(self, rows: Sequence[str], living: Collection[str]) -> None:
        """Go on with these rows alone, of which some train. Raises ValueError where they are none
        of this stack's, or lie in another order."""
        there = [key for key in self.rows if key in rows]
        if there != list(rows) or not living or not set(living) <= set(rows):
            raise ValueError("it is of other trials")
        if len(rows) < len(self.rows):
            self.members = [member for member in self.members if member.key in rows]
            self._close_ranks()
        self.members = [member for member in self.members if member.key in living]

    def _close_ranks(self) -> None:
        self.rows = [member.key for member in self.members]
        rows = [member.row for member in self.members]
        chosen = torch.tensor(rows, device=self.device)
        self.network.keep(chosen)
        self.updates.keep(chosen)
        self.rates.keep(rows)
        self.scores = {
            split: (outputs[chosen], targets[chosen], losses[chosen])
            for split, (outputs, targets, losses) in self.scores.items()
        }
        self.owner = self.owner[chosen]
        self.sharing = SharedInputs.of(self.owner, len(self.seeds))
        for row, member in enumerate(self.members):
            member.row = row

    def numbers(self, epoch: int) -> EpochCoefficients:
        """What the updates of an epoch (from 1) take beside gradients."""
        before = (epoch - 1) * self.steps_per_epoch
        return self.updates.numbers(self.rates.of_epoch(epoch), before)

    def streams(self, epoch: int) -> EpochStreams:
        """What is drawn in an epoch (from 1), from its beginning."""
        return EpochStreams(self.seeds, self.owner, epoch, self.network.values, self.augment)

    def step(
        self,
        places: Tensor,
        numbers: UpdateCoefficients,
        masks: DropoutMasks,
        augmented: Callable[[Tensor], Tensor] = _as_they_are,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One update of every row. Returns logits [K, B, O], losses [K, B] and targets [K, B, …].

        places: int64 [seeds, B], each seed's batch in the training pool. augmented: what becomes of
        each seed's inputs [seeds, B, …].
        """
        inputs, targets = self.pools.train.at(places)
        targets = self.sharing.spread(targets)
        logits = self.logits(augmented(inputs), self.sharing, masks)
        losses = self.losses(logits, targets)
        self.network.backward(losses)
        self.updates.step(numbers)
        return logits.detach(), losses.detach(), targets

    def living(self) -> list[Tensor]:
        """The tensors that an update changes and the next one reads."""
        return [self.network.values, *self.network.buffers.values(), *self.updates.living()]

    def logits(self, inputs: Tensor, sharing: SharedInputs, masks: DropoutMasks | None) -> Tensor:
        """`Network.forward` at the trials' precision; its result is not of less than float32."""
        with devices.autocast(self.device, self.trial.precision):
            return self.network.forward(inputs, sharing, masks).float()

    def losses(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The examples' losses [K, B] of logits [K, B, O]; a loss sees each example by itself."""
        return self.loss(logits.flatten(0, 1), targets.flatten(0, 1)).view(logits.shape[:2])

    def metadata(self, member: StackedTrial) -> dict[str, Any]:
        """What `Parts.facts` says of a trial, and how many trained together."""
        evaluated = self.pools.evaluated().items()
        return devices.metadata(self.device) | {
            "precision": member.trial.precision,
            "parameters": self.parameters,
            "examples": {"train": len(self.pools.train)} | {k: len(v) for k, v in evaluated},
            "fused": self.size,
            "exclusive": False,
        }

    def _initial_model(self, seed: int) -> torch.nn.Module:
        return initial_model(replace(self.trial, seed=seed), self.pools.seeds[0])


def _check(trials: Sequence[Trial]) -> None:
    """Raises ValueError for trials not alike."""
    for name in TRIAL_FIELDS:
        if name not in STACKABLE_FIELDS and name not in DEVICE_FIELDS:
            first = getattr(trials[0], name)
            if any(getattr(trial, name) != first for trial in trials[1:]):
                raise ValueError(f"the trials of a stack differ in {name}")


class EpochStreams:
    """masks: dropout's, of this epoch.

    seeds: the distinct ones. owner: int64 [K], each trial's place among them. like: a tensor of the
    parameters' precision, on their device. augment: in their order.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        owner: Tensor,
        epoch: int,
        like: Tensor,
        augment: Sequence[AugmentationFunction],
    ) -> None:
        self.masks = EpochDropoutMasks(seeds, owner, epoch, like.dtype)
        self._augment = augment
        self._chances = [
            generator(seed, "augmentation", epoch, device=str(like.device))
            for seed in (seeds if augment else ())
        ]

    def augment_batch(self, inputs: Tensor) -> Tensor:
        """Each seed's batch [seeds, B, …] after the augmentations: what it is alone, to the last
        bit, as one stream after another is drawn from."""
        if not self._augment:
            return inputs
        pairs = zip(inputs, self._chances, strict=True)
        return torch.stack([augment_batch(self._augment, batch, chance) for batch, chance in pairs])

    def state(self) -> dict[str, Any]:
        """What `load` needs inside the epoch."""
        chances = [chance.get_state() for chance in self._chances]
        return {"masks": self.masks.state(), "augmentation": chances}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where the streams of this epoch were. Raises RuntimeError for another device's."""
        self.masks.load(state["masks"])
        for chance, where in zip(self._chances, state["augmentation"], strict=True):
            chance.set_state(where)
