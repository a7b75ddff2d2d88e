"""Reads the lists of an experiment file, `skip:` and `expect:`, and the conditions in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.components.base import Component
from harness.core.metrics import BEST, FINAL
from harness.experiment.experiment import Expectation
from harness.experiment.fields import ExpectFields, SkipFields, TrialFields, is_known, split
from harness.experiment.grid import SkipRule
from harness.experiment.reading.components import (
    check_option,
    find_component,
    make_choice,
    make_choices,
)
from harness.experiment.reading.file import ExperimentFile
from harness.experiment.reading.metrics import resolve
from harness.experiment.reading.trial_fields import ReadFields, report_unknown_field
from harness.experiment.reading.validation import INVALID, shown, validate, validate_mapping
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    LIST_FIELDS,
    NO_AUGMENTATION,
    Choice,
)

Chosen = Mapping[str, Sequence[Component]]
"""The components that a file chooses, by trial field."""


def chosen_components(read: ReadFields) -> Chosen:
    """Returns all components that are valid in some combination."""
    return {
        name: [
            value.value.component
            for value in read.fields[name].values.values()
            if isinstance(value.value, Choice)
        ]
        for name in COMPONENT_FIELDS
    }


def read_skip_rules(file: ExperimentFile, read: ReadFields) -> list[tuple[SkipRule, Keys]]:
    """Returns the valid skip rules, each with its place."""
    chosen = chosen_components(read)
    rules = []
    for position, item in enumerate(_items(file, "skip")):
        keys: Keys = ("skip", position)
        values = validate_mapping(SkipFields, item, keys, file)
        if values is not None and check_condition(values["when"], (*keys, "when"), chosen, file):
            rules.append((SkipRule(values["when"], values["because"]), keys))
    return rules


def read_expectations(file: ExperimentFile, read: ReadFields) -> tuple[Expectation, ...]:
    """Returns the published figures that are valid."""
    chosen, recorded = chosen_components(read), read.always_recorded()
    expectations = []
    for position, item in enumerate(_items(file, "expect")):
        keys: Keys = ("expect", position)
        values = validate_mapping(ExpectFields, item, keys, file)
        if values is None:
            continue
        metric, place = values["metric"], (*keys, "metric")
        # A condition may choose among the data sets: the metric need not fit all of them then.
        infos = [] if values["where"] else read.infos.values()
        selection = resolve(metric.removeprefix(FINAL).removeprefix(BEST), infos, place, file)
        if selection is not None and metric.startswith(BEST) and selection.name not in recorded:
            hint = f"add {selection.name} to trial.metrics"
            file.report(place, "is not recorded at each evaluation, so no best is known", hint)
        valid = check_condition(values["where"], (*keys, "where"), chosen, file)
        if valid and selection is not None:
            expectations.append(Expectation(**values))
    return tuple(expectations)


def _items(file: ExperimentFile, name: str) -> list[Any]:
    value = file.values.get(name)
    if value is None or isinstance(value, list):
        return value or []
    file.report((name,), f"must be a list, given {shown(value)}")
    return []


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
