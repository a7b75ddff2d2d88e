"""Which engine a sweep gets, and how many workers of how many threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from harness.dispatch.engine import Engine
from harness.dispatch.inline import InlineEngine
from harness.dispatch.process import ProcessEngine
from harness.trial import Trial

Executor = Literal["inline", "process"]


def engine(trials: Sequence[Trial], executor: Executor | None, workers: int | None) -> Engine:
    """The engine for these trials: all of a plan, so that what is left of it after an interruption
    trains with as many threads as what was trained before.

    executor, workers: as the user set them, or None. By default trials on the CPU get one worker a
    core, of one thread each, and never more workers than trials; trials on a GPU, and single
    trials, train in this process.
    """
    if executor is None:
        executor = "process" if (workers or default_workers(trials)) > 1 else "inline"
    if executor == "inline":
        return InlineEngine()
    count = workers or default_workers(trials)
    return ProcessEngine(count, threads=max(1, cores() // count))


def default_workers(trials: Sequence[Trial]) -> int:
    """How many trials to train at once."""
    if any(_may_use_gpu(trial.device) for trial in trials):
        return 1
    return max(1, min(cores(), len(trials)))


def cores() -> int:
    """Processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _may_use_gpu(device: str) -> bool:
    """Told without torch, which takes seconds to import: "auto" means a GPU where one is there."""
    if device == "auto":
        return any(Path("/dev").glob("nvidia[0-9]*")) or os.uname().sysname == "Darwin"
    return device != "cpu"
