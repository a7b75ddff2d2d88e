"""Checkpoints: all that a trial in training is, as tensors and primitives; and when one is due.

What is not here is made again from the trial itself: the data, the splits, the order of each
epoch. The streams of dropout and augmentation begin anew with each epoch, so that their states
matter inside an epoch alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Final

import torch
from torch import Tensor

from harness.training.evaluation import ModelOutputs
from harness.training.resources import ResourceMeter
from harness.training.setup import TrainingSetup

FORMAT: Final = 1
"""Raised when older checkpoints can no longer be read."""
DEFAULT_SECONDS: Final = 20.0
MOST_COST: Final = 0.02
"""By default checkpoints are so far apart that writing them takes no more of the time than this."""

SHORT_SECONDS: Final = 2.0
"""An evaluation that takes no longer is waited for where training is to stop."""


class UnusableCheckpoint(Exception):
    """A checkpoint that is sound as a file, and yet cannot be gone on from here."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trial after `epoch` whole epochs and `batch` batches of the next.

    state: primitives and tensors, which are the living ones: to be written before training goes on.
    """

    epoch: int
    batch: int
    state: Mapping[str, Any]


@dataclass(slots=True)
class PartialEpoch:
    """An epoch in training. before: the training clock when it began. outputs, losses and targets:
    of each batch so far. streams: the states to go on from, where it was begun before."""

    before: float = 0.0
    outputs: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    streams: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """Batches so far."""
        return len(self.losses)

    def add(self, outputs: Tensor, losses: Tensor, targets: Tensor) -> None:
        self.outputs.append(outputs)
        self.losses.append(losses)
        self.targets.append(targets)

    def scores(self, dim: int = 0) -> ModelOutputs:
        """Of all its batches so far. dim: where a batch's examples lie."""
        parts = (self.outputs, self.targets, self.losses)
        return ModelOutputs(*(torch.cat(part, dim) for part in parts))


@dataclass(slots=True)
class ResumePoint:
    """Where a trial goes on. epoch: whole epochs. begun: the next one, where it was begun."""

    epoch: int
    clock: ResourceMeter
    begun: PartialEpoch | None = None


class CheckpointPolicy:
    """When a checkpoint is due: inside an epoch once `every` seconds have passed since the last one
    or the start, at an epoch's end once half of them have; at once where
    `stop_requested` asks for it.

    every: None for the default, which grows where writing one takes more than `MOST_COST` of it;
    infinity for none but those asked for. evaluation: seconds the last evaluation took, infinity
    where none is known.
    """

    def __init__(self, every: float | None = None) -> None:
        self.stop_requested = False
        self.evaluation_seconds = inf
        self._training = False
        self._in_batches = False
        self._grows = every is None
        self._every = DEFAULT_SECONDS if every is None else every
        self._last = time.monotonic()
        self._is_long = False

    @property
    def can_stop_soon(self) -> bool:
        """Whether a checkpoint that is asked for now comes soon: after the batch in hand, or after
        an evaluation that is short."""
        return self._in_batches or (self._training and self.evaluation_seconds < SHORT_SECONDS)

    @contextmanager
    def training(self) -> Iterator[None]:
        """While entered, checkpoints are taken; the time counts from here."""
        self._last = time.monotonic()
        self._training = True
        try:
            yield
        finally:
            self._training = False

    def is_due(self, before_evaluation: bool = False) -> bool:
        """Inside an epoch. before_evaluation: after its last batch, where an evaluation follows
        that may take the rest of the time and cannot be gone on from."""
        passed = time.monotonic() - self._last
        ahead = (
            self.evaluation_seconds
            if before_evaluation and isfinite(self.evaluation_seconds)
            else 0.0
        )
        return self.stop_requested or passed + ahead >= self._every

    def is_due_after_epoch(self, is_last: bool = False) -> bool:
        """is_last: of the trial's last epoch, where each trial that is long enough has one."""
        passed = time.monotonic() - self._last
        self._is_long = self._is_long or passed >= self._every / 2
        return self.stop_requested or passed >= self._every / 2 or (is_last and self._is_long)

    def record_write(self, seconds: float) -> None:
        """A checkpoint took so long to write."""
        if self._grows:
            self._every = max(DEFAULT_SECONDS, seconds / MOST_COST)
        self._last = time.monotonic()
        self._is_long = True

    @contextmanager
    def in_batches(self) -> Iterator[None]:
        """While entered, batches are trained."""
        self._in_batches = True
        try:
            yield
        finally:
            self._in_batches = False


def capture(
    parts: TrainingSetup,
    clock: ResourceMeter,
    epoch: int,
    begun: PartialEpoch | None = None,
    chance: torch.Generator | None = None,
) -> Checkpoint:
    """A trial's checkpoint after `epoch` whole epochs, and what was `begun` of the next one."""
    own = {
        "format": FORMAT,
        "model": parts.model.state_dict(),
        "optimizer": parts.optimizer.state_dict(),
        "learning_rate": parts.learning_rate.state(),
    }
    drawn = None if chance is None else random_states(parts.device, chance)
    return build_checkpoint(own, parts.device, clock, epoch, begun, drawn)


def restore(parts: TrainingSetup, state: Mapping[str, Any]) -> ResumePoint:
    """Put parts just assembled where the trial was when `state` was taken.

    Raises UnusableCheckpoint where that is not possible; the parts are then spoilt.
    """

    def load() -> None:
        parts.model.load_state_dict(state["model"])
        parts.optimizer.load_state_dict(state["optimizer"])
        parts.learning_rate.load(state["learning_rate"])

    return resume_from(state, FORMAT, parts.device, load, parts.trial.batch_size)


def build_checkpoint(
    own: Mapping[str, Any],
    device: torch.device,
    clock: ResourceMeter,
    epoch: int,
    begun: PartialEpoch | None,
    drawn: Mapping[str, Any] | None,
    dim: int = 0,
) -> Checkpoint:
    """A checkpoint of what a trial or a stack has of its `own`, and of where it is.

    begun, drawn: of the epoch in training, and the states of its streams; None between epochs.
    dim: along which batches follow one another.
    """
    state: dict[str, Any] = {
        **own,
        "epoch": epoch,
        "clock": {"train": clock.train, "evaluation": clock.evaluation, "before": clock.peak},
        "device": device.type,
        "begun": None,
    }
    if begun is None or drawn is None:
        return Checkpoint(epoch, 0, state)
    scores = begun.scores(dim)
    state["begun"] = {
        "before": begun.before,
        "outputs": scores.outputs,
        "losses": scores.losses,
        "targets": scores.targets,
        "streams": drawn,
    }
    return Checkpoint(epoch, len(begun), state)


def resume_from(
    state: Mapping[str, Any],
    known: int,
    device: torch.device,
    load: Callable[[], None],
    batch_size: int,
    dim: int = 0,
) -> ResumePoint:
    """Where a state that `build_checkpoint` made goes on, after `load` has taken over what is a
    trial's or a stack's own. known: the format that can be read. Raises UnusableCheckpoint where it
    cannot be."""
    if state["format"] != known:
        raise UnusableCheckpoint("it was written by another version")
    if state["begun"] is not None and state["device"] != device.type:
        raise UnusableCheckpoint(f"its random streams are of the device {state['device']}")
    try:
        load()
    except (RuntimeError, ValueError, KeyError) as error:
        raise UnusableCheckpoint(" ".join(str(error).split())) from error

    def batches(name: str) -> list[Tensor]:
        # Each batch by itself, as it was: where numbers lie in memory may decide how they add up.
        whole = state["begun"][name].to(device)
        return [part.clone() for part in whole.split(batch_size, dim)]

    begun = None
    if state["begun"] is not None:
        begun = PartialEpoch(
            state["begun"]["before"],
            batches("outputs"),
            batches("losses"),
            batches("targets"),
            state["begun"]["streams"],
        )
    return ResumePoint(state["epoch"], ResourceMeter(device, **state["clock"]), begun)


def random_states(device: torch.device, chance: torch.Generator) -> dict[str, Tensor]:
    """The states of what is drawn from inside an epoch: torch's global generators, which dropout
    uses, and the augmentations' own."""
    found = {"cpu": torch.get_rng_state(), "augmentation": chance.get_state()}
    if device.type == "cuda":
        found["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        found["device"] = torch.mps.get_rng_state()
    return found


def set_random_states(
    device: torch.device, chance: torch.Generator, states: Mapping[str, Tensor]
) -> None:
    """Put them back."""
    torch.set_rng_state(states["cpu"].cpu())
    chance.set_state(states["augmentation"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["device"].cpu(), device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["device"].cpu())
