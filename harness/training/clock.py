"""A trial's clock: training and evaluation apart, and the most memory it held."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from harness.training.device import synchronize


@dataclass(slots=True)
class Clock:
    """Seconds spent on training and on evaluation so far. before: the most bytes the trial held on
    its GPU before it was interrupted."""

    device: torch.device
    train: float = 0.0
    evaluation: float = 0.0
    before: int = 0
    started: float = 0.0

    def start(self) -> None:
        synchronize(self.device)
        self.started = time.perf_counter()

    def lap(self) -> float:
        synchronize(self.device)
        return time.perf_counter() - self.started

    @property
    def peak(self) -> int:
        """The most bytes the trial held on its GPU; 0 on other devices."""
        if self.device.type != "cuda":
            return self.before
        return max(self.before, torch.cuda.max_memory_allocated(self.device))
