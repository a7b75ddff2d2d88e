"""Conditions on trials: the `when:` of a skip rule and the `where:` of a published figure.

`{optimizer: adam, lr: [0.1, 1.0]}` holds of a trial whose optimizer is Adam with whatever options
and whose learning rate is either of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.experiment.trial import COMPONENT_LIST_FIELDS, NO_AUGMENTATION, Trial

Plain = Any
"""A field as `Trial.resolved()` gives it: a component as {"name": …, option: value}."""


def matches(condition: Mapping[str, Any], trial: Trial | Mapping[str, Plain]) -> bool:
    """Whether every field of the condition holds of a trial, or of its `resolved()` form.

    A field may be dotted into a component ("optimizer.momentum"); it does not hold of a component
    without that option.
    """
    fields = trial.resolved() if isinstance(trial, Trial) else trial
    return all(
        field_matches(field, wanted, fields.get(field.partition(".")[0]))
        for field, wanted in condition.items()
    )


def field_matches(field: str, wanted: Any, value: Plain) -> bool:
    """Whether one field of a condition holds. value: of the field's root, the whole component.

    wanted: a value; a component's name, or a mapping of its name and some of its options; or a
    list, which means any of its items (or the list itself, where the field's value is a list).
    """
    root, _, option = field.partition(".")
    if option:
        return isinstance(value, Mapping) and option in value and _any(wanted, value[option])
    if root in COMPONENT_LIST_FIELDS:
        return _augment_matches(wanted, value or [])
    return _any(wanted, value)


def _any(wanted: Any, value: Plain) -> bool:
    if _equal(wanted, value):
        return True
    return isinstance(wanted, (list, tuple)) and any(_equal(item, value) for item in wanted)


def _augment_matches(wanted: Any, value: list[Plain]) -> bool:
    """`none` is the empty list, and one name a list of one."""
    if wanted == NO_AUGMENTATION:
        return not value
    if not isinstance(wanted, (list, tuple)):
        return _equal([wanted], value)
    return _equal(wanted, value) or any(
        _augment_matches(item, value)
        for item in wanted
        if item == NO_AUGMENTATION or isinstance(item, list)
    )


def _equal(wanted: Any, value: Plain) -> bool:
    if isinstance(value, Mapping) and "name" in value:
        if isinstance(wanted, Mapping):
            return all(key in value and _equal(item, value[key]) for key, item in wanted.items())
        return bool(wanted == value["name"])
    if isinstance(wanted, (list, tuple)) and isinstance(value, (list, tuple)):
        return len(wanted) == len(value) and all(map(_equal, wanted, value))
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    return bool(wanted == value)
