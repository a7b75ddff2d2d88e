"""Runs one task where it is called, as a stack where it has several trials and that can be."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.dispatch.engine import Event, Task
from harness.dispatch.runner import failure, is_out_of_memory, run
from harness.records import Ended, Measured, Outcome, Record, Started

if TYPE_CHECKING:
    import torch

FUSING = "fusing"
"""The fact that tells why trials train as a stack where that was to be measured."""

_fitting: dict[str, int] = {}
"""How many trials fit into memory, by what their size depends on, as found in this process."""


CANCELLED = Ended(Outcome.INTERRUPTED, {}, "cancelled")


def events(task: Task, cancelled: Collection[str] = frozenset()) -> Iterator[Event]:
    """The records of all of a task's trials.

    cancelled: keys of trials that are no longer wanted, looked at between two records, so that the
    caller may add to it; each ends as `CANCELLED`, and the others go on.

    Trials that turn out not to stack train one after another, as do those whose stack fails before
    its first epoch is over, so that a trial that fails does so alone; where memory runs out, each
    half is tried as a stack first. Nothing is handed on before that epoch, so that no trial is
    begun twice.
    """
    if not task.others:
        for record in _alone(task, cancelled):
            yield Event(task.key, record)
        return
    from harness.training.fused.passes import Unstackable

    held: list[Event] = []
    left = dict(task.trials)
    begun = False
    try:
        for event in _stacked(task, cancelled):
            begun = begun or _is_progress(event.record)
            held.append(event)
            if begun:
                yield from _handed_on(held, left)
    except Unstackable as reason:
        yield from _one_by_one(task, str(reason), cancelled)
    except _TooLarge as limit:
        for part in _parts(task, limit.most):
            yield from events(part, cancelled)
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        if begun:
            ended = failure(error, task)
            yield from (Event(key, ended) for key in left)
            return
        halve = is_out_of_memory(error)
        failure(error, task)  # for what it lets go of
        held.clear()
        if halve:
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

    from harness.training import device as devices
    from harness.training.fused.loop import train_stack
    from harness.training.fused.passes import Unstackable

    device = torch.device(task.device) if task.device else devices.resolve(task.trial.device)
    _require_room(task, device)
    facts: dict[str, Any] = {}
    if task.measure is not None:
        from harness.dispatch.gains import gain_of

        gain = gain_of(task, task.measure, device)
        if not gain.stacks:
            raise Unstackable(gain.told)
        facts = {FUSING: gain.told}
        if gain.factor is not None:
            facts["fused_gain"] = round(gain.factor, 2)
    for key, record in train_stack(task.trials, task.data_root, device, task.evidence, cancelled):
        if isinstance(record, Started) and facts:
            record = Started({**record.facts, **facts})
        yield Event(key, record)


class _TooLarge(Exception):
    """most: how many trials of the task fit into memory as one stack."""

    def __init__(self, most: int) -> None:
        self.most = most


def _require_room(task: Task, device: torch.device) -> None:
    """Raises _TooLarge where the trials would take more than a stack's share of the memory."""
    from harness.training.fused.memory import fitting

    key = f"{task.trial.model.resolved()} {task.trial.dataset.resolved()} {task.trial.batch_size}"
    if key not in _fitting or _fitting[key] < len(task.trials):
        _fitting[key] = fitting(task.trials, task.data_root, device)
    if _fitting[key] < len(task.trials):
        raise _TooLarge(_fitting[key])


def _one_by_one(task: Task, reason: str, cancelled: Collection[str]) -> Iterator[Event]:
    for key, trial in task.trials:
        alone = replace(task, key=key, trial=trial, others=())
        for record in _alone(alone, cancelled):
            if isinstance(record, Started):
                record = Started({**record.facts, "not_fused": reason})
            yield Event(key, record)


def _parts(task: Task, most: int) -> Iterator[Task]:
    """As few tasks as `most` trials each allow, of like sizes."""
    count = -(-len(task.trials) // most)
    for part in range(count):
        begin, end = (len(task.trials) * i // count for i in (part, part + 1))
        (key, trial), *others = task.trials[begin:end]
        yield replace(task, key=key, trial=trial, others=tuple(others))


def _handed_on(held: list[Event], left: dict[str, Any]) -> Iterator[Event]:
    for event in held:
        if isinstance(event.record, Ended):
            del left[event.key]
        yield event
    held.clear()


def _is_progress(record: Record) -> bool:
    """Whether it comes after a first epoch of training."""
    return isinstance(record, Ended) or (isinstance(record, Measured) and record.epoch > 0)
