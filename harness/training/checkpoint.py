"""Checkpoints: the whole state of a trial or a stack in training, and when one is due.

A checkpoint contains tensors and primitives only. It leaves out what the trial determines: the
data, the splits and the order of each epoch. The random streams of dropout and augmentation restart
with each epoch, so a checkpoint stores their states only inside an epoch.
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
"""Of a trial's state; raised when older checkpoints can no longer be read."""
DEFAULT_SECONDS: Final = 20.0
MAX_WRITE_SHARE: Final = 0.02
"""By default checkpoints are so far apart that writing them takes at most this share of the
time."""
SHORT_SECONDS: Final = 2.0
"""Training that is asked to stop waits for an evaluation that takes at most this long."""


class UnusableCheckpoint(Exception):
    """A checkpoint is intact as a file, but training cannot resume from it here."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trial or a stack after `epoch` whole epochs and `batch` batches of the next.

    state: primitives and tensors. Training changes the tensors when it goes on: write them before.
    """

    epoch: int
    batch: int
    state: Mapping[str, Any]


@dataclass(slots=True)
class PartialEpoch:
    """An epoch in training.

    started_at: seconds on the training clock at its start. outputs, losses, targets: of each batch
    so far. random_states: the states to resume from, if the epoch was interrupted.
    """

    started_at: float = 0.0
    outputs: list[Tensor] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    targets: list[Tensor] = field(default_factory=list)
    random_states: Mapping[str, Any] | None = None

    def __len__(self) -> int:
        """The number of batches so far."""
        return len(self.losses)

    def add(self, outputs: Tensor, losses: Tensor, targets: Tensor) -> None:
        self.outputs.append(outputs)
        self.losses.append(losses)
        self.targets.append(targets)

    def concatenate(self, dim: int = 0) -> ModelOutputs:
        """Returns what all batches so far have put out. dim: that of the examples."""
        batches = (self.outputs, self.targets, self.losses)
        return ModelOutputs(*(torch.cat(tensors, dim) for tensors in batches))


@dataclass(slots=True)
class ResumePoint:
    """Where training resumes: after `epoch` whole epochs; inside the next if it is `partial`."""

    epoch: int
    clock: ResourceMeter
    partial: PartialEpoch | None = None


class CheckpointPolicy:
    """Decides when a checkpoint is due.

    Inside an epoch one is due when `every` seconds have passed since the last one or the start; at
    an epoch's end, when half of them have. Where `stop_requested` is set, one is due at once.

    every: None for the default, which grows where writing takes more than `MAX_WRITE_SHARE` of the
    time; infinity for no checkpoint but a requested one. evaluation_seconds: how long the last
    evaluation took; infinity while none is known.
    """

    def __init__(self, every: float | None = None) -> None:
        self.stop_requested = False
        self.evaluation_seconds = inf
        self._is_training = False
        self._is_in_batches = False
        self._grows = every is None
        self._every = DEFAULT_SECONDS if every is None else every
        self._last = time.monotonic()
        self._is_long = False

    @property
    def can_stop_soon(self) -> bool:
        """Whether a checkpoint that is requested now is due soon: after the current batch, or after
        a short evaluation."""
        return self._is_in_batches or (
            self._is_training and self.evaluation_seconds < SHORT_SECONDS
        )

    @contextmanager
    def training(self) -> Iterator[None]:
        """While entered, checkpoints are written. The time counts from here."""
        self._last = time.monotonic()
        self._is_training = True
        try:
            yield
        finally:
            self._is_training = False

    @contextmanager
    def in_batches(self) -> Iterator[None]:
        """While entered, batches are trained."""
        self._is_in_batches = True
        try:
            yield
        finally:
            self._is_in_batches = False

    def is_due(self, before_evaluation: bool = False) -> bool:
        """Returns whether a checkpoint is due inside an epoch.

        before_evaluation: after the last batch, if an evaluation follows. It may take the rest of
        the interval, and training cannot resume inside it.
        """
        seconds = time.monotonic() - self._last
        if before_evaluation and isfinite(self.evaluation_seconds):
            seconds += self.evaluation_seconds
        return self.stop_requested or seconds >= self._every

    def is_due_after_epoch(self, is_last: bool = False) -> bool:
        """Returns whether a checkpoint is due at an epoch's end.

        is_last: of the trial's last epoch, after which every trial that is long enough to have
        checkpoints writes one.
        """
        is_due = time.monotonic() - self._last >= self._every / 2
        self._is_long = self._is_long or is_due
        return self.stop_requested or is_due or (is_last and self._is_long)

    def record_write(self, seconds: float) -> None:
        """Notes how long a checkpoint took to write."""
        if self._grows:
            self._every = max(DEFAULT_SECONDS, seconds / MAX_WRITE_SHARE)
        self._last = time.monotonic()
        self._is_long = True


def capture(
    setup: TrainingSetup,
    clock: ResourceMeter,
    epoch: int,
    partial: PartialEpoch | None = None,
    augmentation: torch.Generator | None = None,
) -> Checkpoint:
    """Returns a trial's checkpoint after `epoch` whole epochs, and inside the next if `partial`.

    augmentation: the generator from which augmentations draw inside that epoch.
    """
    own_state = {
        "format": FORMAT,
        "model": setup.model.state_dict(),
        "optimizer": setup.optimizer.state_dict(),
        "learning_rate": setup.learning_rate.state(),
    }
    states = None if augmentation is None else random_states(setup.device, augmentation)
    return build_checkpoint(own_state, setup.device, clock, epoch, partial, states)


def restore(setup: TrainingSetup, state: Mapping[str, Any]) -> ResumePoint:
    """Puts a fresh setup where the trial was when `state` was captured.

    Raises UnusableCheckpoint if that is impossible; the setup can then no longer be used.
    """

    def load() -> None:
        setup.model.load_state_dict(state["model"])
        setup.optimizer.load_state_dict(state["optimizer"])
        setup.learning_rate.load(state["learning_rate"])

    return resume_from(state, FORMAT, setup.device, load, setup.trial.batch_size)


def build_checkpoint(
    own_state: Mapping[str, Any],
    device: torch.device,
    clock: ResourceMeter,
    epoch: int,
    partial: PartialEpoch | None,
    states: Mapping[str, Any] | None,
    dim: int = 0,
) -> Checkpoint:
    """Returns a checkpoint of a trial's or a stack's own state, and of how far it has come.

    partial, states: the epoch in training and the states of its random streams; None between
    epochs. dim: that of the examples in the outputs of a batch.
    """
    state: dict[str, Any] = {
        **own_state,
        "epoch": epoch,
        "clock": {
            "train": clock.train_seconds,
            "evaluation": clock.evaluation_seconds,
            "before": clock.peak,
        },
        "device": device.type,
        "begun": None,
    }
    if partial is None or states is None:
        return Checkpoint(epoch, 0, state)
    outputs = partial.concatenate(dim)
    state["begun"] = {
        "before": partial.started_at,
        "outputs": outputs.outputs,
        "losses": outputs.losses,
        "targets": outputs.targets,
        "streams": states,
    }
    return Checkpoint(epoch, len(partial), state)


def resume_from(
    state: Mapping[str, Any],
    known_format: int,
    device: torch.device,
    load: Callable[[], None],
    batch_size: int,
    dim: int = 0,
) -> ResumePoint:
    """Returns where training resumes from a state that `build_checkpoint` made.

    load: restores the trial's or the stack's own state. dim: as in `build_checkpoint`.
    Raises UnusableCheckpoint if training cannot resume from it.
    """
    if state["format"] != known_format:
        raise UnusableCheckpoint("it was written by another version")
    saved = state["begun"]
    if saved is not None and state["device"] != device.type:
        raise UnusableCheckpoint(f"its random streams are of the device {state['device']}")
    try:
        load()
    except (RuntimeError, ValueError, KeyError) as error:
        raise UnusableCheckpoint(" ".join(str(error).split())) from error
    spent = state["clock"]
    clock = ResourceMeter(device, spent["train"], spent["evaluation"], spent["before"])
    if saved is None:
        return ResumePoint(state["epoch"], clock)

    def split(name: str) -> list[Tensor]:
        # Each batch by itself, as before: where numbers lie in memory may decide how they add up.
        return [batch.clone() for batch in saved[name].to(device).split(batch_size, dim)]

    outputs, losses, targets = split("outputs"), split("losses"), split("targets")
    partial = PartialEpoch(saved["before"], outputs, losses, targets, saved["streams"])
    return ResumePoint(state["epoch"], clock, partial)


def random_states(device: torch.device, augmentation: torch.Generator) -> dict[str, Tensor]:
    """Returns the states of the generators that are drawn from inside an epoch: torch's global
    ones, which dropout uses, and that of the augmentations."""
    states = {"cpu": torch.get_rng_state(), "augmentation": augmentation.get_state()}
    if device.type == "cuda":
        states["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["device"] = torch.mps.get_rng_state()
    return states


def set_random_states(
    device: torch.device, augmentation: torch.Generator, states: Mapping[str, Tensor]
) -> None:
    """Restores what `random_states` returned."""
    torch.set_rng_state(states["cpu"].cpu())
    augmentation.set_state(states["augmentation"].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["device"].cpu(), device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["device"].cpu())
