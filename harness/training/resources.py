"""The time and memory that a trial takes, and the memory that a stack may take."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from harness.core.metrics import EVAL_SECONDS, PEAK_MEMORY, TRAIN_SECONDS
from harness.training.device import synchronize

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")
RESET_PEAK = "5"

STACKS_SHARE = 0.5
"""The share of the free memory that the stacks of all workers may take together."""
ROWS = 7
"""The most rows of parameters per trial: values, gradient and its parts, and an optimizer's state
with its temporary tensors."""
STEPS = 2
"""The tensors that a step saves for backward count twice: their gradients are of similar size."""
ROWS_RECORDING = 8
"""Additional rows per trial on a GPU: to prove a CUDA graph, parameters and optimizer state are
copied before and after an update."""
STEPS_RECORDING = 2
"""Additional steps on a GPU: a CUDA graph keeps its memory for itself until the stack ends, while
an epoch's shorter last batch and evaluations take theirs."""
OUTPUT_COPIES = 5
"""The most copies of an epoch's outputs: by batch, concatenated, of the previous epoch, and in
metrics."""


@dataclass(slots=True)
class ResourceMeter:
    """Measures a trial's seconds of training and of evaluation, and its peak memory.

    previous_peak: the peak in bytes before the trial was interrupted.
    """

    device: torch.device
    train_seconds: float = 0.0
    evaluation_seconds: float = 0.0
    previous_peak: int = 0
    started: float = 0.0
    _memory: PeakMemory = field(init=False)

    def __post_init__(self) -> None:
        self._memory = PeakMemory(self.device)

    def start(self) -> None:
        """Starts the clock."""
        synchronize(self.device)
        self.started = time.perf_counter()

    def lap(self) -> float:
        """Returns the seconds since `start`."""
        synchronize(self.device)
        return time.perf_counter() - self.started

    @property
    def peak(self) -> int:
        """The peak memory in bytes, as `PeakMemory` defines it; 0 if the system cannot tell."""
        return max(self.previous_peak, self._memory.bytes() or 0)

    def seconds(self) -> dict[str, float]:
        """Returns the seconds of training and of evaluation under their metrics' names."""
        return {TRAIN_SECONDS: self.train_seconds, EVAL_SECONDS: self.evaluation_seconds}

    def memory(self) -> dict[str, float]:
        """Returns the peak in MiB under its metric's name; empty if the system cannot tell."""
        if self._memory.bytes() is None and not self.previous_peak:
            return {}
        return {PEAK_MEMORY: self.peak / 2**20}


class PeakMemory:
    """The peak memory from the construction of this object on.

    On a GPU: the most memory that torch's tensors took at once, weights and data included
    (`torch.cuda.max_memory_allocated`, which `device.configure` resets).
    On a CPU, under Linux: the growth of the process's resident set (VmHWM, which is reset here).
    It holds gradients, optimizer state and activations; weights and data were allocated before.
    Other work of the process counts too. Other systems cannot tell: their high-water mark is that
    of all trials of the process.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._at_start = _reset_peak() if device.type == "cpu" else None

    def bytes(self) -> int | None:
        """Returns the peak so far; None if the system cannot tell."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device)
        return None if self._at_start is None else max(_peak() - self._at_start, 0)


def _reset_peak() -> int | None:
    """Sets the process's high-water mark to its present size; returns that, or None if it fails."""
    try:
        # Memory that earlier trials freed is returned first, or this trial would use it unseen.
        ctypes.CDLL(None).malloc_trim(0)
        CLEAR.write_text(RESET_PEAK)
        return _peak()
    except (OSError, AttributeError, ValueError):
        return None


def _peak() -> int:
    """Returns the largest resident set since the reset, in bytes. Raises OSError or ValueError."""
    for line in STATUS.read_bytes().splitlines():
        if line.startswith(b"VmHWM:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"{STATUS} has no VmHWM")


class TooLarge(Exception):
    """A stack would take more memory than it may. max_trials: how many trials fit, at least 1."""

    def __init__(self, max_trials: int) -> None:
        super().__init__(f"{max_trials} trials fit into memory")
        self.max_trials = max_trials


def memory_limit(device: torch.device) -> int:
    """Returns the bytes that a stack of this process may take in training."""
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        import psutil

        workers = max(1, (os.cpu_count() or 1) // torch.get_num_threads())
        free = int(psutil.virtual_memory().available) // workers
    return int(free * STACKS_SHARE)


def row_bytes(parameters: int, device: torch.device) -> int:
    """Returns the bytes that a trial takes for its rows. parameters: the bytes of one row."""
    return (ROWS + (device.type == "cuda") * ROWS_RECORDING) * parameters


def step_bytes(saved: int, example: int, examples: int, device: torch.device) -> int:
    """Returns the bytes that a trial takes for activations and outputs.

    saved: the bytes that a step saves for backward. example: those of an example's outputs.
    examples: the size of the training split.
    """
    steps = STEPS + (device.type == "cuda") * STEPS_RECORDING
    return steps * saved + OUTPUT_COPIES * example * examples


@contextmanager
def saved_tensors() -> Iterator[dict[int, int]]:
    """Collects the tensors saved for backward inside: the bytes of each, by address."""
    sizes: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield sizes
