"""What is learned from a user's targets: the task, and the targets as training takes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from harness.components.base import Task
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from torch import Tensor

FEW_CLASSES: Final = 1000
"""More classes than this, and than examples, are probably a quantity."""


@dataclass(frozen=True, slots=True)
class OwnTargets:
    """values: [N] int64 or [N, T] float32. class_names: of classes or labels."""

    task: Task
    values: Tensor
    class_names: tuple[str, ...] = ()


def describe_targets(targets: Tensor | None, n: int, task: str, names: Sequence[str]) -> OwnTargets:
    """Returns what is learned from the targets of all n examples.

    targets: as the user gave them; None if there are none. task: "auto" finds it. names: of classes
    or labels; may be empty. Raises InputError for targets that do not fit the task.
    """
    import torch

    if targets is None and task not in ("auto", Task.AUTOENCODING):
        raise InputError(
            Problem(f"task: {task} needs targets", hint="return pairs (input, target)")
        )
    if targets is None:
        return OwnTargets(Task.AUTOENCODING, torch.zeros(n, 1))
    flat = targets.reshape(n, -1)
    flat = flat if flat.is_floating_point() else flat.long()
    if flat.is_floating_point() and not flat.isfinite().all():
        wrong = int((~flat.isfinite().all(1)).nonzero()[0])
        raise InputError(f"the target of example {wrong} is NaN or infinite")
    chosen = _likely_task(flat) if task == "auto" else Task(task)
    if chosen is Task.AUTOENCODING:
        is_class = not flat.is_floating_point() and flat.shape[1] == 1
        return OwnTargets(chosen, flat[:, 0].long() if is_class else torch.zeros(n, 1))
    if chosen.is_classification:
        return _classes(flat, chosen, names)
    if chosen is Task.MULTILABEL:
        return _labels(flat, names)
    if chosen is Task.COUNT:
        _check(flat, (flat >= 0) & (flat == flat.round()), "is no count: a count is 0, 1, 2, …")
    return OwnTargets(chosen, flat.float())


def _likely_task(flat: Tensor) -> Task:
    is_binary = bool(((flat == 0) | (flat == 1)).all())
    if flat.shape[1] > 1 and is_binary:
        return Task.MULTILABEL
    if flat.is_floating_point():
        return Task.BINARY if is_binary else Task.REGRESSION
    if flat.shape[1] > 1:
        what = f"a target has {flat.shape[1]} whole numbers, which are neither 0 nor 1"
        hint = "return one class number, labels of 0 and 1, or floats for a regression"
        raise InputError(Problem(what, hint=hint))
    return Task.MULTICLASS


def _classes(flat: Tensor, task: Task, names: Sequence[str]) -> OwnTargets:
    if flat.shape[1] != 1:
        hint = "for labels, declare task: multilabel"
        raise InputError(Problem(f"a target has {flat.shape[1]} classes, not one", hint=hint))
    _check(flat, flat == flat.round(), "is no class: classes are numbered 0, 1, 2, …")
    _check(flat, flat >= 0, "is no class: classes are numbered from 0 on")
    numbers = flat[:, 0].long()
    count = max(len(names), int(numbers.max()) + 1)
    lowest = int(numbers.min())
    if lowest > 0 and not names:
        hint = f"subtract {lowest}, or name all classes: class_names=[…]"
        raise InputError(Problem(f"no example is of class 0: classes begin at {lowest}", hint=hint))
    if names:
        _check(flat, flat < len(names), f"is no class: class_names has {len(names)} names")
    if count < 2:
        raise InputError("all examples have one class, 0")
    if count > max(FEW_CLASSES, len(numbers)):
        hint = "if it is a quantity, return floats, or declare task: regression"
        raise InputError(Problem(f"it has classes up to number {count - 1}", hint=hint))
    if task is not Task.ORDINAL:
        task = Task.BINARY if count == 2 else Task.MULTICLASS
    return OwnTargets(task, numbers, tuple(names) or tuple(map(str, range(count))))


def _labels(flat: Tensor, names: Sequence[str]) -> OwnTargets:
    _check(flat, (flat == 0) | (flat == 1), "is no label: a label is 0 or 1")
    count = flat.shape[1]
    if names and len(names) != count:
        raise InputError(f"class_names has {len(names)} names for {count} labels")
    return OwnTargets(Task.MULTILABEL, flat.float(), tuple(names) or tuple(map(str, range(count))))


def _check(flat: Tensor, fits: Tensor, reason: str) -> None:
    """Raises InputError that names the first example whose target does not fit."""
    if fits.all():
        return
    number, place = (int(index) for index in (~fits).nonzero()[0])
    raise InputError(f"the target of example {number}, {flat[number, place].item():g}, {reason}")
