"""Runs one task where it is called: what every engine does at its far end."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Iterator

from harness.core.errors import HarnessError
from harness.core.records import Ended, Outcome, Record, Started
from harness.execution.executors.base import Task


def run(task: Task) -> Iterator[Record]:
    """A task's records. An exception becomes a failed `Ended`, with its traceback.

    torch is imported here and not before, so that a sweep with nothing to do is quick.
    """
    import torch

    from harness.execution.resume_trial import train_with_checkpoints

    device = None if task.device is None else torch.device(task.device)
    try:
        for record in train_with_checkpoints(task, device):
            if isinstance(record, Started):
                record = Started({**record.metadata, "exclusive": task.exclusive})
            yield record
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        yield failure(error, task)


def failure(error: Exception, task: Task) -> Ended:
    """What an exception of a task says, with its traceback where it is not meant for people. Lets
    go of what the task holds."""
    if isinstance(error, HarnessError):
        return Ended(Outcome.FAILED, {}, reason=str(error))
    told = "".join(traceback.format_exception(error))
    reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if is_out_of_memory(error):
        reason = f"out of memory on {task.device or task.trial.device}: {reason}"
    _free(error)
    return Ended(Outcome.FAILED, {}, reason=reason, traceback=told)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the device or of the host."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch has no class of its own for the host's memory.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _free(error: BaseException) -> None:
    """Let go of what a failed trial holds, so that the next finds its device as this one did."""
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    torch = sys.modules["torch"]
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
