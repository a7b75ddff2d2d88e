"""Devices: which one a trial runs on, and how it is set up."""

from __future__ import annotations

import ctypes
import re
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import nn

from harness.core.errors import InputError, Problem
from harness.core.system import cpu_model

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
NEVER = -1
KEPT_BYTES = 1 << 30, 32 << 20  # The second is the most that older versions of glibc take.
"""The largest piece of memory that is kept when it is freed."""


def resolve(name: str) -> torch.device:
    """The device that `name` means here: "auto" takes a GPU where there is one, else the CPU.

    Raises InputError where the machine lacks the device that was asked for by name.
    """
    if name == "auto":
        return torch.device(_best())
    if name == "cpu":
        return torch.device("cpu")
    if name == "mps":
        if torch.backends.mps.is_available():
            return torch.device("mps")
        raise InputError(Problem("device: 'mps' is not available on this machine", hint=_present()))
    index = int(re.sub(r"\D", "", name) or 0)
    if index >= torch.cuda.device_count():
        raise InputError(
            Problem(f"device: {name!r} is not available on this machine", hint=_present())
        )
    return torch.device("cuda", index)


def configure(device: torch.device) -> None:
    """Make results repeatable on `device`, and fp32 mean fp32, in this process."""
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


@cache
def warm_up(device: torch.device) -> None:
    """Train a throw-away layer once a process, so that no trial's clock pays for what torch
    imports and sets up at its first step."""
    layer = nn.Linear(2, 2, device=device)
    for kind in (torch.optim.SGD, torch.optim.Adam):
        layer(torch.ones(1, 2, device=device)).sum().backward()
        kind(layer.parameters(), lr=0.0).step()
    synchronize(device)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """The context of a forward pass at a trial's precision; may be entered many times."""
    if precision == "bf16":
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext()


def synchronize(device: torch.device) -> None:
    """Wait for the device, so that a clock read next tells the truth."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def metadata(device: torch.device) -> dict[str, Any]:
    """What the device is, for a run's provenance; JSON-able."""
    found: dict[str, Any] = {
        "device": str(device),
        "device_name": cpu_model(),
        "threads": torch.get_num_threads(),
        "cudnn_deterministic": torch.backends.cudnn.deterministic,
        "allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device_name": properties.name,
            "device_memory_bytes": properties.total_memory,
            "cuda": torch.version.cuda,
        }
    return found


def _best() -> str:
    if torch.cuda.is_available():
        return "cuda:0"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _present() -> str:
    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    return f"this machine has: {', '.join(found)}"
