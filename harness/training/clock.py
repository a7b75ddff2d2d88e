"""A trial's clock: training and evaluation apart, and the most memory it held."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch

from harness.core.metrics import PEAK_MEMORY
from harness.training.device import synchronize
from harness.training.memory import PeakMemory


@dataclass(slots=True)
class Clock:
    """Seconds spent on training and on evaluation so far. before: the most bytes the trial held
    before it was interrupted."""

    device: torch.device
    train: float = 0.0
    evaluation: float = 0.0
    before: int = 0
    started: float = 0.0
    _memory: PeakMemory = field(init=False)

    def __post_init__(self) -> None:
        self._memory = PeakMemory(self.device)

    def start(self) -> None:
        synchronize(self.device)
        self.started = time.perf_counter()

    def lap(self) -> float:
        synchronize(self.device)
        return time.perf_counter() - self.started

    @property
    def peak(self) -> int:
        """The most bytes the trial held, as `PeakMemory` has them; 0 where nobody can tell."""
        return max(self.before, self._memory.bytes() or 0)

    def memory(self) -> dict[str, float]:
        """The peak in MiB under its metric's name; empty where nobody can tell."""
        if self._memory.bytes() is None and not self.before:
            return {}
        return {PEAK_MEMORY: self.peak / 2**20}
