"""The machine's processor, and the Python process's garbage collector."""

from __future__ import annotations

import gc
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

RARE_THRESHOLDS = (50_000, 20, 20)
"""Thresholds for `gc.set_threshold`; Python's own are 700, 10 and 10."""


@cache
def cpu_model() -> str:
    """Returns the processor's model name, or its architecture where the system gives no name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, "") or platform.processor() or platform.machine()


@contextmanager
def rare_garbage_collection() -> Iterator[None]:
    """Collects cyclic garbage rarely in this block, and ignores the objects that existed before.

    A sweep creates records and rows by the hundred thousand, and none is part of a cycle. MLflow's
    import leaves half a million objects that each full collection would traverse. Do not use it in
    a process that trains: a cycle may hold a device's memory.
    """
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(*RARE_THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
