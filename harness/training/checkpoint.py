"""Checkpoints: the whole state of a trial or a stack in training, and when one is due.

A checkpoint contains tensors and primitives only. It leaves out what the trial determines: the
data, the splits and the order of each epoch. The random streams of dropout and augmentation restart
with each epoch, so a checkpoint stores their states only inside an epoch.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import Any, Final

import torch
from torch import Tensor

from harness.core.seeding import HOST_STREAMS, host_random_states, set_host_random_states
from harness.training.evaluation import ModelOutputs, concatenate
from harness.training.resources import ResourceMeter
from harness.training.setup import TrainingContext

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

    started_at: seconds on the training clock at its start. batches: the outputs of each batch so
    far. random_states: the states to resume from, if the epoch was interrupted.
    """

    started_at: float
    batches: list[ModelOutputs] = field(default_factory=list)
    random_states: Mapping[str, Any] | None = None


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
    context: TrainingContext,
    clock: ResourceMeter,
    epoch: int,
    partial: PartialEpoch | None = None,
    states: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Returns the checkpoint of a trial or a stack after `epoch` whole epochs.

    partial, states: the next epoch, if it is in training, and the states of its random streams.
    """
    state = {
        "format": context.checkpoint_format,
        **context.state(),
        "epoch": epoch,
        "clock": {
            "train": clock.train_seconds,
            "evaluation": clock.evaluation_seconds,
            "before": clock.peak,
        },
        "device": context.device.type,
        "begun": None,
    }
    if partial is None:
        return Checkpoint(epoch, 0, state)
    outputs = concatenate(partial.batches, context.examples_dim)
    state["begun"] = {"before": partial.started_at, **outputs._asdict(), "streams": states}
    return Checkpoint(epoch, len(partial.batches), state)


def restore(context: TrainingContext, state: Mapping[str, Any]) -> ResumePoint:
    """Puts a fresh setup or stack where the one of `state` was when that was captured.

    Raises UnusableCheckpoint if that is impossible; what was passed can then no longer be used.
    """
    if state["format"] != context.checkpoint_format:
        raise UnusableCheckpoint("it was written by another version")
    saved = state["begun"]
    if saved is not None and state["device"] != context.device.type:
        raise UnusableCheckpoint(f"its random streams are of the device {state['device']}")
    try:
        context.load(state)
    except (RuntimeError, ValueError, KeyError) as error:
        raise UnusableCheckpoint(" ".join(str(error).split())) from error
    spent = state["clock"]
    clock = ResourceMeter(context.device, spent["train"], spent["evaluation"], spent["before"])
    if saved is None:
        return ResumePoint(state["epoch"], clock)

    def split(name: str) -> list[Tensor]:
        # Each batch by itself, as before: where numbers lie in memory may decide how they add up.
        batches = (
            saved[name].to(context.device).split(context.trial.batch_size, context.examples_dim)
        )
        return [batch.clone() for batch in batches]

    batches = list(map(ModelOutputs, split("outputs"), split("losses"), split("targets")))
    partial = PartialEpoch(saved["before"], batches, saved["streams"])
    return ResumePoint(state["epoch"], clock, partial)


def random_states(
    device: torch.device, streams: Mapping[str, torch.Generator]
) -> dict[str, Tensor]:
    """Returns the states of the generators that are drawn from inside an epoch: torch's global
    ones, which dropout uses, those of Python and numpy, which a user's code may use, and `streams`,
    those of the augmentations and of a training step of the user's own."""
    states = {"cpu": torch.get_rng_state()}
    states |= {name: stream.get_state() for name, stream in streams.items()}
    host = host_random_states()
    states |= {name: torch.tensor(state, dtype=torch.float64) for name, state in host.items()}
    if device.type == "cuda":
        states["device"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        states["device"] = torch.mps.get_rng_state()
    return states


def set_random_states(
    device: torch.device, streams: Mapping[str, torch.Generator], states: Mapping[str, Tensor]
) -> None:
    """Restores what `random_states` returned."""
    torch.set_rng_state(states["cpu"].cpu())
    set_host_random_states({n: states[n].tolist() for n in HOST_STREAMS if n in states})
    for name, stream in streams.items():
        stream.set_state(states[name].cpu())
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["device"].cpu(), device)
    elif device.type == "mps":
        torch.mps.set_rng_state(states["device"].cpu())
