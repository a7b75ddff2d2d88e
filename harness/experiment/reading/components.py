"""Reads what a file says of components, by name or with options, and conditions on trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness.components.base import Component
from harness.components.registry import SINGULAR, components, find
from harness.core.errors import InputError, did_you_mean
from harness.experiment.fields import COMPONENT_KINDS, TrialFields, is_known, split
from harness.experiment.reading.file import ExperimentFile, dotted
from harness.experiment.reading.validation import INVALID, option_messages, shown, validate
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    NO_AUGMENTATION,
    TRIAL_FIELDS,
    Choice,
)

Chosen = Mapping[str, Sequence[Component]]
"""The components that a file chooses, by trial field."""

Report = Callable[[Keys, str, str], None]
"""Takes a broken rule: its place, the rule and a hint."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that a file gives, and its place."""

    value: Any
    keys: Keys


@dataclass(frozen=True, slots=True)
class ComponentReference:
    """A component that a file names. options: those beside the name, not validated yet."""

    component: Component
    options: Mapping[str, Any]
    keys: Keys


def find_component(
    field: str, value: Any, keys: Keys, file: ExperimentFile
) -> ComponentReference | None:
    """Returns the component that a field names, or None after reporting why there is none."""
    kind = COMPONENT_KINDS[field]
    options = dict(value) if isinstance(value, Mapping) else {}
    name = options.pop("name", None) if isinstance(value, Mapping) else value
    if not isinstance(name, str):
        rule = f"must be a {SINGULAR[kind]}'s name, or a mapping with `name` and its options"
        file.report(keys, f"{rule}, given {shown(value)}")
        return None
    try:
        return ComponentReference(find(kind, name), options, keys)
    except InputError as error:
        place = (*keys, "name") if isinstance(value, Mapping) else keys
        for problem in error.problems:
            what = problem.what.partition(": ")[2] or problem.what
            file.report_text(place, f"{dotted(keys)}: {what}", problem.hint)
        return None


def make_choice(
    reference: ComponentReference, options: Mapping[str, Entry], report: Report
) -> Choice[Any] | None:
    """Returns the component with validated options, or None after reporting the problem.

    options: those given apart from the component, as `optimizer.eps`. An option that is given
        twice is refused.
    """
    component = reference.component
    twice = [name for name in options if name in reference.options]
    for name in twice:
        rule = f"{name!r} is given twice, here and in {dotted(reference.keys)}"
        report(options[name].keys, rule, "")
    values = {**reference.options, **{name: entry.value for name, entry in options.items()}}
    try:
        validated = component.options.model_validate(values)
    except ValidationError as error:
        owner = f"{SINGULAR[component.kind]} {component.name!r}"
        for message in option_messages(error, component.options, owner):
            keys = (*reference.keys, *message.at)
            if message.at and message.at[0] in options:
                keys = (*options[str(message.at[0])].keys, *message.at[1:])
            report(keys, message.rule, message.hint)
        return None
    return None if twice else Choice(component, validated)


def read_component(field: str, value: Any, keys: Keys, file: ExperimentFile) -> Any:
    """Returns the component that a field names, with the options beside the name, or INVALID after
    reporting the problem."""
    reference = find_component(field, value, keys, file)
    choice = make_choice(reference, {}, file.report) if reference else None
    return INVALID if choice is None else choice


def read_value(field: str, value: Any, keys: Keys, file: ExperimentFile) -> Any:
    """Returns the value of a field as `Trial` takes it, or INVALID after reporting the problem."""
    if field in COMPONENT_FIELDS:
        return read_component(field, value, keys, file)
    if field not in COMPONENT_LIST_FIELDS:
        return validate(TrialFields, field, value, keys, file)
    if value == NO_AUGMENTATION:
        return ()
    if isinstance(value, list):
        chosen = [read_component(field, item, (*keys, i), file) for i, item in enumerate(value)]
    else:
        chosen = [read_component(field, value, keys, file)]
    return INVALID if INVALID in chosen else tuple(chosen)


def check_option(field: str, chosen: Iterable[Component], keys: Keys, file: ExperimentFile) -> bool:
    """Whether some component, registered or chosen, has the option that `field` names after its
    dot. Reports it otherwise."""
    root, option = split(field)
    kind = COMPONENT_KINDS[root]
    candidates = [*components(kind).values(), *chosen]
    known = {name for component in candidates for name in component.options.model_fields}
    if option not in known:
        rule = f"no {SINGULAR[kind]} has an option {option!r}"
        file.report(keys, rule, did_you_mean(option, known))
    return option in known


def report_unknown_field(file: ExperimentFile, name: str, keys: Keys) -> None:
    """Reports a name that is neither a trial field nor an option of a component."""
    root, option = split(name)
    allowed = COMPONENT_FIELDS if option else TRIAL_FIELDS
    file.report(keys, "unknown field", did_you_mean(root if option else name, allowed))


def check_condition(
    condition: Mapping[str, Any], keys: Keys, chosen: Chosen, file: ExperimentFile
) -> bool:
    """Whether all fields and values of a condition are valid. Reports those that are not."""
    checks = [
        _check_field(field, wanted, (*keys, field), chosen, file)
        for field, wanted in condition.items()
    ]
    return all(checks)


def _check_field(field: str, wanted: Any, keys: Keys, chosen: Chosen, file: ExperimentFile) -> bool:
    root, option = split(field)
    if not is_known(field):
        report_unknown_field(file, field, keys)
        return False
    if option:
        return check_option(field, chosen.get(root, ()), keys, file)
    if field == "metrics":
        return True
    several = isinstance(wanted, list)
    if field in COMPONENT_LIST_FIELDS:  # where a plain list is one value
        several = several and any(i == NO_AUGMENTATION or isinstance(i, list) for i in wanted)
    if not several:
        return read_value(field, wanted, keys, file) is not INVALID
    if not wanted:
        file.report(keys, "an empty list matches nothing")
    values = [read_value(field, item, (*keys, i), file) for i, item in enumerate(wanted)]
    return bool(wanted) and INVALID not in values
