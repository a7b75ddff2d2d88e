"""Reads what a file says of components, by name or with options, and conditions on trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
    LIST_FIELDS,
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
    refused = dict(_refused(reference, options))
    for keys, (rule, hint) in refused.items():
        report(keys, rule, hint)
    declared = reference.component.options
    values = {**reference.options, **{name: entry.value for name, entry in options.items()}}
    try:
        validated = declared.model_validate(values)
    except ValidationError as error:
        for message in option_messages(error, declared.model_fields):
            keys = (*reference.keys, *message.at)
            if message.at and str(message.at[0]) in options:
                keys = (*options[str(message.at[0])].keys, *message.at[1:])
            if keys not in refused:
                report(keys, message.rule, message.hint)
        return None
    except InputError as error:
        for problem in error.problems:
            report(reference.keys, problem.what, problem.hint)
        return None
    return None if refused else Choice(reference.component, validated)


def _refused(
    reference: ComponentReference, options: Mapping[str, Entry]
) -> Iterator[tuple[Keys, tuple[str, str]]]:
    """Yields the options that the component lacks or that are given twice: place, rule, hint."""
    component = reference.component
    known = component.options.model_fields
    places = {name: (*reference.keys, name) for name in reference.options}
    for name, keys in [*places.items(), *((name, entry.keys) for name, entry in options.items())]:
        if name not in known:
            rule = f"{SINGULAR[component.kind]} {component.name!r} has no option {name!r}"
            yield keys, (rule, did_you_mean(name, known))
    for name, entry in options.items():
        if name in known and name in places:
            rule = f"{name!r} is given twice, here and in {dotted(reference.keys)}"
            yield entry.keys, (rule, "")


def make_choices(
    field: str, value: Any, keys: Keys, file: ExperimentFile
) -> tuple[Choice[Any], ...] | None:
    """Returns the components of a field that holds a list of them: none, one or several.

    Returns None after reporting the problem.
    """
    if value == NO_AUGMENTATION:
        return ()
    choices: list[Choice[Any] | None] = []
    for position, item in enumerate(value if isinstance(value, list) else [value]):
        place = (*keys, position) if isinstance(value, list) else keys
        reference = find_component(field, item, place, file)
        choices.append(make_choice(reference, {}, file.report) if reference else None)
    valid = [choice for choice in choices if choice is not None]
    return tuple(valid) if len(valid) == len(choices) else None


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
    if field in LIST_FIELDS or not isinstance(wanted, list):
        return _check_value(field, wanted, keys, file)
    if not wanted:
        file.report(keys, "an empty list matches nothing")
    checks = [_check_value(field, item, (*keys, i), file) for i, item in enumerate(wanted)]
    return bool(wanted) and all(checks)


def _check_value(field: str, wanted: Any, keys: Keys, file: ExperimentFile) -> bool:
    """Whether a field can have this value. Reports it otherwise."""
    if field in COMPONENT_FIELDS:
        reference = find_component(field, wanted, keys, file)
        return reference is not None and make_choice(reference, {}, file.report) is not None
    if field in COMPONENT_LIST_FIELDS:
        if isinstance(wanted, list) and any(
            isinstance(item, list) or item == NO_AUGMENTATION for item in wanted
        ):
            items = [make_choices(field, item, (*keys, i), file) for i, item in enumerate(wanted)]
            return None not in items
        return make_choices(field, wanted, keys, file) is not None
    if field in LIST_FIELDS:
        return True
    return validate(TrialFields, field, wanted, keys, file) is not INVALID
