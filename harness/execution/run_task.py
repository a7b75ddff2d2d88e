"""Runs a task in this process: one trial, or a stack if it has several that can be stacked."""

from __future__ import annotations

import gc
import sys
import traceback
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.components.registry import line_of_code
from harness.core.errors import HarnessError
from harness.core.records import FINISHED, Ended, Measured, Outcome, Record, Started
from harness.execution.checkpoint_folder import CheckpointFolder, CheckpointWriteError
from harness.execution.executors.base import CANCELLED, TOLD_TO_STOP, Event, TrainingTask

if TYPE_CHECKING:
    import torch

    from harness.training.stacked.stack import Stack

_max_trials: dict[str, int] = {}
"""How many trials fit into memory, by what their size depends on, as measured in this process."""


@dataclass(slots=True)
class _Progress:
    """Holds the events of a stack back until its first epoch is over.

    unfinished: the keys of trials that have not ended. has_begun: whether that epoch is over.
    """

    unfinished: set[str]
    has_begun: bool = False
    pending: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> list[Event]:
        """Returns the events that can be passed on now."""
        record = event.record
        self.pending.append(event)
        if isinstance(record, Ended) or (isinstance(record, Measured) and record.epoch > 0):
            self.has_begun = True
        if not self.has_begun:
            return []
        ready, self.pending = self.pending, []
        self.unfinished -= {e.key for e in ready if isinstance(e.record, Ended)}
        return ready


def events(task: TrainingTask, cancelled: Collection[str] = frozenset()) -> Iterator[Event]:
    """Yields the records of all trials of a task.

    cancelled: keys of trials that are no longer wanted. It is read between two records, so that the
    caller may add to it. Each such trial ends as `CANCELLED`, and the others continue.

    Trials that cannot be stacked train one after another. So do those of a stack that fails before
    its first epoch is over, so that a trial that fails does so alone; if memory runs out, each half
    is first tried as a stack. No event is yielded before that epoch is over, so that no trial
    starts twice. If a checkpoint of a stack cannot be written, all its trials fail.
    """
    try:
        _ = task.trial  # The code that its components come from is loaded now.
    except HarnessError as error:
        yield from (Event(key, failure(error, task)) for key in task.trials)
        return
    if not task.is_stack:
        for record in _run_single(task, cancelled):
            yield Event(task.key, record)
        return
    from harness.training.resources import TooLarge
    from harness.training.stacked.modules.forward_pass import Unstackable

    progress = _Progress(set(task.trials))
    try:
        for event in _run_stack(task, cancelled):
            if event.record is TOLD_TO_STOP:
                yield event
                return
            yield from progress.add(event)
        return
    except Unstackable as reason:
        fallback = _run_one_by_one(task, str(reason), cancelled)
    except TooLarge as error:
        fallback = _run_parts(task, error.max_trials, cancelled)
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        ended = failure(error, task)  # It also frees the stack's memory.
        if progress.has_begun or isinstance(error, CheckpointWriteError):
            yield from (Event(key, ended) for key in task.trials if key in progress.unfinished)
            return
        progress.pending.clear()
        if is_out_of_memory(error):
            fallback = _run_parts(task, -(-len(task.trials) // 2), cancelled)
        else:
            first_line = f"the stack failed: {error}".splitlines()[0]
            fallback = _run_one_by_one(task, first_line, cancelled)
    # Outside of the handlers: their exceptions would keep the stack in memory.
    yield from fallback


def _run_single(task: TrainingTask, cancelled: Collection[str]) -> Iterator[Record]:
    """Yields a single trial's records, until it is cancelled."""
    if task.key in cancelled:
        yield CANCELLED
        return
    for record in run(task):
        yield record
        if task.key in cancelled and not isinstance(record, Ended):
            yield CANCELLED
            return


def _run_stack(task: TrainingTask, cancelled: Collection[str]) -> Iterator[Event]:
    """Yields the records of a stack.

    Raises Unstackable if the trials cannot be stacked, or train faster one by one; TooLarge if they
    do not fit into memory.
    """
    import torch

    from harness.execution.checkpointer import train_with_checkpoints
    from harness.training import device as devices

    device = torch.device(task.device) if task.device else devices.resolve(task.trial.device)
    return train_with_checkpoints(task, cancelled, lambda: _build_stack(task, device))


def _build_stack(task: TrainingTask, device: torch.device) -> tuple[Stack, dict[str, Any]]:
    """Builds a task's stack, if it fits into memory and is faster than its trials one by one.

    Returns it with the metadata of its start. The speedup is measured if the task has a file for
    it that holds no earlier measurement. Raises Unstackable and TooLarge.
    """
    from harness.execution.stacking import measured_speedup, stored_speedup
    from harness.training.stacked.modules.forward_pass import Unstackable

    if len(task.trials) == 1:
        raise Unstackable("no other trial of its stack is left")
    file = task.speedup_file
    if file is None:
        return _build_within_memory(task, device), {}
    metadata = stored_speedup(task, file, device)
    stack = _build_within_memory(task, device)
    return stack, metadata or measured_speedup(task, file, stack)


def _build_within_memory(task: TrainingTask, device: torch.device) -> Stack:
    """Builds a task's stack. Raises TooLarge if it would take more memory than it may."""
    from harness.training import resources
    from harness.training.stacked.stack import Stack

    trial, trials = task.trial, tuple(task.trials.items())
    augment = [choice.resolved() for choice in trial.augment]
    size = trial.model.resolved(), trial.dataset.resolved(), trial.batch_size, trial.precision
    key = f"{size} {augment}"
    if _max_trials.get(key, 0) >= len(task.trials):
        return Stack(trials, task.data_root, device, planned=task.fingerprint)
    limit = resources.memory_limit(device)
    stack = Stack(trials, task.data_root, device, limit, task.fingerprint)
    _max_trials[key] = max(1, limit // stack.bytes_per_trial())
    if _max_trials[key] < len(task.trials):
        raise resources.TooLarge(_max_trials[key])
    return stack


def _run_one_by_one(task: TrainingTask, reason: str, cancelled: Collection[str]) -> Iterator[Event]:
    _delete_checkpoint(task)
    for key in task.trials:
        for record in _run_single(task.restart_with([key]), cancelled):
            if isinstance(record, Started):
                record = Started({**record.metadata, "not_fused": reason})
            yield Event(key, record)


def _run_parts(task: TrainingTask, max_trials: int, cancelled: Collection[str]) -> Iterator[Event]:
    """Runs as few stacks of at most `max_trials` as possible, of almost equal sizes."""
    _delete_checkpoint(task)
    keys = list(task.trials)
    count = -(-len(keys) // max_trials)
    for part in range(count):
        start, stop = (len(keys) * i // count for i in (part, part + 1))
        yield from events(task.restart_with(keys[start:stop]), cancelled)


def _delete_checkpoint(task: TrainingTask) -> None:
    """Deletes the checkpoint of a stack that does not train as such: none may resume it."""
    if task.checkpoints is not None and task.checkpoints.stack is not None:
        CheckpointFolder(task.checkpoints.stack).delete()


def run(task: TrainingTask) -> Iterator[Record]:
    """Yields the records of a task with one trial. An exception becomes a failed `Ended`.

    torch is imported here and not before, so that a sweep with nothing to do is quick.
    """
    from harness.execution.checkpointer import train_with_checkpoints
    from harness.training.data import check_streamed

    try:
        for event in train_with_checkpoints(task):
            record = event.record
            if isinstance(record, Started):
                record = Started({**record.metadata, "exclusive": task.exclusive})
            elif isinstance(record, Ended) and record.outcome in FINISHED:
                check_streamed(task.trial, task.data_root, task.fingerprint.data)
            yield record
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        yield failure(error, task)


def failure(error: Exception, task: TrainingTask) -> Ended:
    """Returns the end of a task that raised this. Frees what the task holds in memory, so that the
    next finds its device as this one did.

    Its traceback is empty for an error of the harness, whose message tells the user what to do.
    """
    place = line_of_code(error)
    where = f"{place}: " if place else ""
    if isinstance(error, HarnessError):
        is_placed = any(problem.where for problem in getattr(error, "problems", ()))
        return Ended(Outcome.FAILED, {}, reason=f"{'' if is_placed else where}{error}")
    trace = "".join(traceback.format_exception(error))
    reason = where + f"{type(error).__name__}: {error}".strip().splitlines()[0]
    if is_out_of_memory(error):
        reason = f"out of memory on {task.device or task.trial.device}: {reason}"
    traceback.clear_frames(error.__traceback__)
    gc.collect()
    torch = sys.modules["torch"]
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    return Ended(Outcome.FAILED, {}, reason=reason, traceback=trace)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether the device's or the host's memory ran out."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    # torch has no class of its own for the host's memory.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
