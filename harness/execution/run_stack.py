"""Runs one task where it is called, as a stack where it has several trials and that can be."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.execution.checkpoint_folder import CheckpointFolder, CheckpointWriteError
from harness.execution.executors.base import Event, Task
from harness.execution.run_task import failure, is_out_of_memory, run
from harness.execution.stopping import TOLD_TO_STOP

if TYPE_CHECKING:
    import torch

FUSING = "fusing"
"""The fact that tells why trials train as a stack where that was to be measured."""

_fitting: dict[str, int] = {}
"""How many trials fit into memory, by what their size depends on, as found in this process."""


CANCELLED = Ended(Outcome.INTERRUPTED, {}, "cancelled")


@dataclass(slots=True)
class _Progress:
    """A stack's events. left: the keys of trials that have not ended. begun: whether an epoch is
    over. held: what is not handed on before."""

    left: set[str]
    begun: bool = False
    held: list[Event] = field(default_factory=list)

    def take(self, event: Event) -> list[Event]:
        """What can be handed on now."""
        self.held.append(event)
        self.begun = self.begun or _is_progress(event.record)
        if not self.begun:
            return []
        found, self.held = self.held, []
        self.left -= {one.key for one in found if isinstance(one.record, Ended)}
        return found


def events(task: Task, cancelled: Collection[str] = frozenset()) -> Iterator[Event]:
    """The records of all of a task's trials.

    cancelled: keys of trials that are no longer wanted, looked at between two records, so that the
    caller may add to it; each ends as `CANCELLED`, and the others go on.

    Trials that turn out not to stack train one after another, as do those whose stack fails before
    its first epoch is over, so that a trial that fails does so alone; where memory runs out, each
    half is tried as a stack first. Nothing is handed on before that epoch, so that no trial is
    begun twice. A stack whose checkpoint cannot be written fails whole.
    """
    if not task.is_stack:
        for record in _alone(task, cancelled):
            yield Event(task.key, record)
        return
    from harness.training.stacked.modules.forward_pass import Unstackable

    progress = _Progress({key for key, _ in task.trials})
    try:
        for event in _stacked(task, cancelled):
            if event.record is TOLD_TO_STOP:
                yield event
                return
            yield from progress.take(event)
    except Unstackable as reason:
        yield from _one_by_one(task, str(reason), cancelled)
    except _TooLarge as limit:
        for part in _parts(task, limit.most):
            yield from events(part, cancelled)
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        ended = failure(error, task)  # It lets go of what the stack holds.
        if progress.begun or isinstance(error, CheckpointWriteError):
            yield from (Event(key, ended) for key, _ in task.trials if key in progress.left)
            return
        progress.held.clear()
        if is_out_of_memory(error):
            for half in _parts(task, -(-len(task.trials) // 2)):
                yield from events(half, cancelled)
        else:
            yield from _one_by_one(task, f"the stack failed: {error}".splitlines()[0], cancelled)


def _alone(task: Task, cancelled: Collection[str]) -> Iterator[Record]:
    """A lone trial's records, up to where it is no longer wanted."""
    if task.key in cancelled:
        yield CANCELLED
        return
    for record in run(task):
        yield record
        if task.key in cancelled and not isinstance(record, Ended):
            yield CANCELLED
            return


def _stacked(task: Task, cancelled: Collection[str]) -> Iterator[Event]:
    """Raises Unstackable where the trials cannot be, or would be slower as, a stack; TooLarge."""
    import torch

    from harness.execution.checkpointer import train_with_checkpoints
    from harness.training import device as devices
    from harness.training.stacked.modules.forward_pass import Unstackable

    device = torch.device(task.device) if task.device else devices.resolve(task.trial.device)

    def anew() -> dict[str, Any]:
        if not task.others:
            raise Unstackable("no other trial of its stack is left")
        _require_room(task, device)
        return _measured(task, device)

    return train_with_checkpoints(task, device, cancelled, anew)


def _measured(task: Task, device: torch.device) -> dict[str, Any]:
    """What `Started.facts` says of a measurement, where one is asked for. Raises Unstackable."""
    from harness.training.stacked.modules.forward_pass import Unstackable

    if task.speedup_file is None:
        return {}
    from harness.execution.stack_speedup import gain_of

    gain = gain_of(task, task.speedup_file, device)
    if not gain.stacks:
        raise Unstackable(gain.told)
    factor = {} if gain.factor is None else {"fused_gain": round(gain.factor, 2)}
    return {FUSING: gain.told, **factor}


class _TooLarge(Exception):
    """most: how many trials of the task fit into memory as one stack."""

    def __init__(self, most: int) -> None:
        self.most = most


def _require_room(task: Task, device: torch.device) -> None:
    """Raises _TooLarge where the trials would take more than a stack's share of the memory."""
    from harness.training.stacked.memory import fitting

    trial = task.trial
    augment = [choice.resolved() for choice in trial.augment]
    size = trial.model.resolved(), trial.dataset.resolved(), trial.batch_size, trial.precision
    key = f"{size} {augment}"
    if key not in _fitting or _fitting[key] < len(task.trials):
        _fitting[key] = fitting(task.trials, task.data_root, device)
    if _fitting[key] < len(task.trials):
        raise _TooLarge(_fitting[key])


def _one_by_one(task: Task, reason: str, cancelled: Collection[str]) -> Iterator[Event]:
    _forget(task)
    for key, trial in task.trials:
        for record in _alone(task.restart_with([(key, trial)]), cancelled):
            if isinstance(record, Started):
                record = Started({**record.metadata, "not_fused": reason})
            yield Event(key, record)


def _parts(task: Task, most: int) -> Iterator[Task]:
    """As few tasks as `most` trials each allow, of like sizes."""
    _forget(task)
    count = -(-len(task.trials) // most)
    for part in range(count):
        begin, end = (len(task.trials) * i // count for i in (part, part + 1))
        yield task.restart_with(task.trials[begin:end])


def _forget(task: Task) -> None:
    """The task does not train as the stack that it was: nobody is to go on with that one."""
    if task.checkpoints is not None and task.checkpoints.stack is not None:
        CheckpointFolder(task.checkpoints.stack).delete()


def _is_progress(record: Record) -> bool:
    """Whether it comes after a first epoch of training."""
    return isinstance(record, Ended) or (isinstance(record, Measured) and record.epoch > 0)
