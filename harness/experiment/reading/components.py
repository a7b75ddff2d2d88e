"""Resolves what a file says of a component, a name or a mapping with options, into a `Choice`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness.components.base import Component
from harness.components.registry import SINGULAR, components, find
from harness.core.errors import InputError, did_you_mean
from harness.experiment.fields import COMPONENT_KINDS, split
from harness.experiment.reading import messages
from harness.experiment.reading.document import Faults, dotted
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import LIST_FIELDS, NO_AUGMENTATION, Choice

Report = Callable[[Keys, str, str], None]
"""Takes a broken rule: where, which, and a hint."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A component that a file names. given: the options beside the name, not validated yet."""

    component: Component
    given: Mapping[str, Any]
    keys: Keys


@dataclass(frozen=True, slots=True)
class Option:
    """An option given apart from its component, as `optimizer.eps`, and where."""

    value: Any
    keys: Keys


def refer(field: str, given: Any, keys: Keys, faults: Faults) -> Reference | None:
    """The component that a field names, or None after reporting why there is none."""
    name, options = (given, {}) if isinstance(given, str) else _named(given)
    if not isinstance(name, str):
        kind = SINGULAR[COMPONENT_KINDS[field]]
        wanted = f"must be a {kind}'s name, or a mapping with `name` and its options"
        faults.add(keys, f"{wanted}, given {messages.shown(given)}")
        return None
    try:
        return Reference(find(COMPONENT_KINDS[field], name), options, keys)
    except InputError as error:
        inner = (*keys, "name") if isinstance(given, Mapping) else keys
        for problem in error.problems:
            what = problem.what.partition(": ")[2] or problem.what
            faults.put(inner, f"{dotted(keys)}: {what}", problem.hint)
        return None


def _named(given: Any) -> tuple[Any, dict[str, Any]]:
    if not isinstance(given, Mapping):
        return None, {}
    return given.get("name"), {key: value for key, value in given.items() if key != "name"}


def choose(
    reference: Reference, options: Mapping[str, Option], report: Report
) -> Choice[Any] | None:
    """The component with its options validated, or None after reporting what is wrong.

    options: those given apart from it; an option given twice is refused.
    """
    lacking = dict(_refused(reference, options))
    for keys, (rule, hint) in lacking.items():
        report(keys, rule, hint)
    values = {**reference.given, **{name: option.value for name, option in options.items()}}
    places = {name: option.keys for name, option in options.items()}
    declared = reference.component.options
    try:
        validated = declared.model_validate(values)
    except ValidationError as error:
        for message in messages.of_options(error, declared.model_fields):
            place = places.get(str(message.at[0])) if message.at else reference.keys
            keys = (*reference.keys, *message.at) if place is None else (*place, *message.at[1:])
            if keys not in lacking:
                report(keys, message.rule, message.hint)
        return None
    except InputError as error:
        for problem in error.problems:
            report(reference.keys, problem.what, problem.hint)
        return None
    return None if lacking else Choice(reference.component, validated)


def _refused(
    reference: Reference, options: Mapping[str, Option]
) -> Iterator[tuple[Keys, tuple[str, str]]]:
    """Options the component lacks, and options given twice, by where they stand."""
    component = reference.component
    known = component.options.model_fields
    named = f"{SINGULAR[component.kind]} {component.name!r}"
    for name in reference.given:
        if name not in known:
            keys = (*reference.keys, name)
            yield keys, (f"{named} has no option {name!r}", did_you_mean(str(name), known))
    for name, option in options.items():
        if name not in known:
            hint = did_you_mean(name, known)
            yield option.keys, (f"{named} has no option {name!r}", hint)
        elif name in reference.given:
            rule = f"{name!r} is given twice, here and in {dotted(reference.keys)}"
            yield option.keys, (rule, "")


def augmentations(given: Any, keys: Keys, faults: Faults) -> tuple[Choice[Any], ...] | None:
    """The augmentations of `augment`: `none`, one of them, or a list; None after a report."""
    if given == NO_AUGMENTATION:
        return ()
    listed = isinstance(given, list)
    choices: list[Choice[Any]] = []
    for position, item in enumerate(given if listed else [given]):
        place = (*keys, position) if listed else keys
        reference = refer("augment", item, place, faults)
        choice = choose(reference, {}, faults.add) if reference else None
        if choice is not None:
            choices.append(choice)
    return tuple(choices) if len(choices) == (len(given) if listed else 1) else None


def takes_list(field: str, named: set[str]) -> bool:
    """Whether the value of a trial field is a list, or that of an option of one of the components
    named (of any component, where none of those is registered)."""
    root, option = split(field)
    if not option:
        return root in LIST_FIELDS
    known = components(COMPONENT_KINDS[root])
    chosen = [known[name] for name in named if name in known] or known.values()
    return any(
        option in component.options.model_fields and _is_list(component, option)
        for component in chosen
    )


def _is_list(component: Component, option: str) -> bool:
    return "'array'" in str(component.options.model_json_schema()["properties"][option])


def check_option(field: str, chosen: Iterable[Component], keys: Keys, faults: Faults) -> bool:
    """Whether some component, registered or chosen, has the option that `field` names after its
    dot; reports it otherwise."""
    root, option = split(field)
    kind = COMPONENT_KINDS[root]
    known = {*(name for c in components(kind).values() for name in c.options.model_fields)}
    known.update(name for component in chosen for name in component.options.model_fields)
    if option not in known:
        faults.add(
            keys, f"no {SINGULAR[kind]} has an option {option!r}", did_you_mean(option, known)
        )
    return option in known
