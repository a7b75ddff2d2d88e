"""Runs one task where it is called, as a stack where it has several trials and that can be."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from harness.dispatch.engine import Event, Task
from harness.dispatch.runner import failure, is_out_of_memory, run
from harness.records import Ended, Measured, Outcome, Record, Started
from harness.trial import Trial

if TYPE_CHECKING:
    from harness.training.fused.pace import Verdict

_verdicts: dict[str, Verdict] = {}
"""What was measured in this process, by what the speed depends on."""


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
    from harness.training.fused.layers import Unstackable

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
    except Exception as error:  # noqa: BLE001 - whatever a model or a library raises
        if begun:
            ended = failure(error, task)
            yield from (Event(key, ended) for key in left)
            return
        halve = is_out_of_memory(error)
        failure(error, task)  # for what it lets go of
        held.clear()
        if halve:
            for half in _halves(task):
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
    """Raises Unstackable where the trials cannot be, or would be slower as, a stack."""
    import torch

    from harness.training import device as devices
    from harness.training.fused.layers import Unstackable
    from harness.training.fused.loop import train_stack
    from harness.training.fused.pace import compare

    device = torch.device(task.device) if task.device else devices.resolve(task.trial.device)
    gain = None
    if task.measure:
        devices.configure(device)
        key = _speed_key(task.trial, len(task.trials), device)
        verdict = _verdicts.get(key) or compare(task.trials, task.data_root, device)
        _verdicts[key] = verdict
        gain = round(verdict.gain, 2)
        if not verdict.faster:
            raise Unstackable(f"measured: a stack trains {gain} times as fast")
    for key, record in train_stack(task.trials, task.data_root, device, task.evidence, cancelled):
        if isinstance(record, Started) and gain is not None:
            record = Started({**record.facts, "fused_gain": gain})
        yield Event(key, record)


def _one_by_one(task: Task, reason: str, cancelled: Collection[str]) -> Iterator[Event]:
    for key, trial in task.trials:
        alone = replace(task, key=key, trial=trial, others=())
        for record in _alone(alone, cancelled):
            if isinstance(record, Started):
                record = Started({**record.facts, "not_fused": reason})
            yield Event(key, record)


def _halves(task: Task) -> Iterator[Task]:
    middle = len(task.trials) // 2
    for (key, trial), *others in (task.trials[:middle], task.trials[middle:]):
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


def _speed_key(trial: Trial, count: int, device: object) -> str:
    return json.dumps(
        [
            trial.model.resolved(),
            trial.dataset.identity(),
            trial.batch_size,
            count.bit_length(),
            str(device),
        ],
        sort_keys=True,
    )
