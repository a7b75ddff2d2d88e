"""Trains one trial in the calling process, as every executor does at its far end."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator

from harness.core.errors import HarnessError
from harness.core.records import Ended, Outcome, Record, Started
from harness.execution.executors.base import TrainingTask


def run(task: TrainingTask) -> Iterator[Record]:
    """Yields the records of a task with one trial. An exception becomes a failed `Ended`.

    torch is imported here and not before, so that a sweep with nothing to do is quick.
    """
    import torch

    from harness.execution.checkpointer import train_with_checkpoints

    device = None if task.device is None else torch.device(task.device)
    try:
        for event in train_with_checkpoints(task, device):
            record = event.record
            if isinstance(record, Started):
                record = Started({**record.metadata, "exclusive": task.exclusive})
            yield record
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        yield failure(error, task)


def failure(error: Exception, task: TrainingTask) -> Ended:
    """Returns the end of a task that raised this. Frees what the task holds in memory.

    Its traceback is empty for an error of the harness, whose message tells the user what to do.
    """
    if isinstance(error, HarnessError):
        return Ended(Outcome.FAILED, {}, reason=str(error))
    trace = "".join(traceback.format_exception(error))
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if is_out_of_memory(error):
        reason = f"out of memory on {task.device or task.trial.device}: {reason}"
    _free_memory(error)
    return Ended(Outcome.FAILED, {}, reason=reason, traceback=trace)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether the device's or the host's memory ran out."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch has no class of its own for the host's memory.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _free_memory(error: BaseException) -> None:
    """Frees what a failed trial holds, so that the next finds its device as this one did."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    torch = sys.modules["torch"]
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
