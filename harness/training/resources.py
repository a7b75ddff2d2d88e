"""A trial's clock: training and evaluation apart, and the most memory it held."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from harness.core.metrics import PEAK_MEMORY
from harness.training.device import synchronize


@dataclass(slots=True)
class ResourceMeter:
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


STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"


class PeakMemory:
    """The most memory used from here on.

    On a GPU: the most that torch's tensors held there at once, weights and resident data included
    (`torch.cuda.max_memory_allocated`, reset when the trial was set up).
    On a CPU, under Linux: by how much the process grew at most (the rise of its resident set,
    VmHWM, which is reset here): gradients, the optimizer's state, activations; the weights and data
    were there before. What else the process does meanwhile counts too. Elsewhere nothing can be
    told: a process's high-water mark is then that of all its trials.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._before = _reset() if device.type == "cpu" else None

    def bytes(self) -> int | None:
        """So far; None where the system cannot tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return None if self._before is None else max(_peak() - self._before, 0)


def _reset() -> int | None:
    """Set the process's high-water mark to what it holds now; bytes, None where that cannot be."""
    try:
        # What earlier trials freed goes back first, or this one would use it unseen.
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK)
        return _peak()
    except (OSError, AttributeError, ValueError):
        return None


def _peak() -> int:
    """The largest resident set since the reset, in bytes. Raises OSError or ValueError."""
    for line in STATUS.read_bytes().splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{STATUS} has no VmHWM")
