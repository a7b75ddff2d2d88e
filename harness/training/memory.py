"""How much memory a trial takes, and that what it frees stays at hand."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = -1
KEPT_BYTES = 1 << 30, 32 << 20  # The second is the most that older versions of glibc take.
"""The largest piece of memory that is kept when it is freed."""


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


@cache
def keep_freed() -> None:
    """Keep memory that torch frees for its next tensors, until the next trial begins.

    glibc gives large pieces back to the system at once and asks for them again, and the system
    clears each page: with that, evaluating a small CNN in batches of 2,048 takes twice as long.
    Does nothing with other C libraries. See mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    # Either setting alone would turn off what glibc does by itself, so the second needs the first.
    if any(mallopt(M_MMAP_THRESHOLD, size) for size in KEPT_BYTES):
        mallopt(M_TRIM_THRESHOLD, NEVER)


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
