"""Devices: which one a trial trains on, and how it is configured."""

from __future__ import annotations

import ctypes
import re
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn

from harness.core.errors import InputError, Problem
from harness.core.process import cpu_model

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = -1
MMAP_THRESHOLDS = 1 << 30, 32 << 20
"""Freed blocks of up to this many bytes stay in the process. The second value is the largest that
older versions of glibc accept."""


def resolve(name: str) -> torch.device:
    """Returns the device that `name` stands for; "auto" is a GPU if there is one, else the CPU.

    Raises InputError if this machine does not have the named device.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda:0")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
    else:
        index = int(re.sub(r"\D", "", name) or 0)
        if index < torch.cuda.device_count():
            return torch.device("cuda", index)
    problem = f"device: {name!r} is not available on this machine"
    raise InputError(Problem(problem, hint=f"this machine has: {', '.join(_available())}"))


def configure(device: torch.device) -> None:
    """Makes results on `device` repeatable in this process, and fp32 computations use fp32.

    Also resets the GPU's peak memory, and warms the device up.
    """
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    keep_freed_memory()
    warm_up(device)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.cuda.reset_peak_memory_stats(device)


@cache
def keep_freed_memory() -> None:
    """Makes the C library keep memory that torch frees, for later tensors of the same trial.

    By default glibc returns large blocks to the system and requests them again, and the system
    clears each page: evaluating a small CNN in batches of 2,048 then takes twice as long.
    Does nothing with other C libraries. See mallopt(3).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    # Setting either threshold turns off glibc's own adjustment, so the second needs the first.
    if any(mallopt(M_MMAP_THRESHOLD, size) for size in MMAP_THRESHOLDS):
        mallopt(M_TRIM_THRESHOLD, NEVER)


@cache
def warm_up(device: torch.device) -> None:
    """Trains a throw-away layer once per process.

    torch imports and initialises much at its first step; no trial's measured time includes that.
    """
    layer = nn.Linear(2, 2, device=device)
    for optimizer in (torch.optim.SGD, torch.optim.Adam):
        layer(torch.ones(1, 2, device=device)).sum().backward()
        optimizer(layer.parameters(), lr=0.0).step()
    synchronize(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """Returns the context for forward passes at a trial's precision; it can be entered again."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def synchronize(device: torch.device) -> None:
    """Waits until the device has finished its work, so that a clock can be read."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def metadata(device: torch.device) -> dict[str, Any]:
    """Describes the device for a run's provenance, as JSON types."""
    values: dict[str, Any] = {
        "device": str(device),
        "device_name": cpu_model(),
        "threads": torch.get_num_threads(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        values |= {
            "device_name": properties.name,
            "device_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return values


def _available() -> list[str]:
    names = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    return [*names, "mps"] if torch.backends.mps.is_available() else names
