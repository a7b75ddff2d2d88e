"""How fast a trial trains: its own steps on its own data, without records."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import torch

from harness.experiment.trial import Trial
from harness.training.batch_sources import Batch
from harness.training.data import Splits
from harness.training.device import synchronize
from harness.training.loop import autocast, training_step
from harness.training.setup import augment_batch, set_up

WARM_UP_STEPS = 3


class Stepper:
    """A trial made ready to train, and warmed up. Its results are thrown away.

    device: where it trains, by default the one it names. data: splits to train on, by default its
    own. Raises what building its parts raises.
    """

    def __init__(
        self,
        trial: Trial,
        data_root: Path,
        device: torch.device | None = None,
        data: Splits | None = None,
    ) -> None:
        self._parts = set_up(trial, data_root, device, data)
        self._batches = self._endless()
        self._chance = torch.Generator(self._parts.device)
        for _ in range(WARM_UP_STEPS):
            self._step()
        synchronize(self._parts.device)

    def seconds_a_step(self, seconds: float) -> float:
        """The mean over the batches trained in at least so many seconds."""
        steps = 0
        start = time.perf_counter()
        while steps == 0 or time.perf_counter() - start < seconds:
            self._step()
            steps += 1
        synchronize(self._parts.device)
        return (time.perf_counter() - start) / steps

    def _step(self) -> None:
        inputs, wanted = next(self._batches)
        if self._parts.augment:
            inputs = augment_batch(self._parts.augment, inputs, self._chance)
        training_step(self._parts, 0, inputs, wanted, autocast(self._parts))

    def _endless(self) -> Iterator[Batch]:
        for _ in repeat(None):
            order = torch.randperm(len(self._parts.data.train))
            yield from self._parts.data.train.batches(self._parts.trial.batch_size, order)
