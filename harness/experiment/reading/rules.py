"""The lists of an experiment file: `skip:` and `expect:`, and the conditions in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.components.base import Component, DataInfo
from harness.core.errors import did_you_mean
from harness.core.metrics import BEST, FINAL
from harness.experiment.experiment import Expectation
from harness.experiment.fields import ExpectFields, SkipFields, TrialFields, is_known, split
from harness.experiment.grid import Factor, SkipRule
from harness.experiment.reading import values as checking
from harness.experiment.reading.components import (
    Option,
    augmentations,
    check_option,
    choose,
    refer,
)
from harness.experiment.reading.document import Document, Faults
from harness.experiment.reading.messages import shown
from harness.experiment.reading.selection import resolve
from harness.experiment.reading.values import INVALID
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    LIST_FIELDS,
    TRIAL_FIELDS,
    Choice,
)

Chosen = Mapping[str, Sequence[Component]]
"""The components that a file chooses, by trial field."""


def chosen_components(factors: Mapping[str, Factor]) -> Chosen:
    """All that are usable in some combination."""
    return {
        name: [c.value.component for c in factor.cells.values() if isinstance(c.value, Choice)]
        for name, factor in factors.items()
        if name in COMPONENT_FIELDS
    }


def skip_rules(document: Document, chosen: Chosen, faults: Faults) -> list[tuple[SkipRule, Keys]]:
    """The sound skip rules, each with its place."""
    rules = []
    for position, given in enumerate(_items(document, "skip", faults)):
        keys: Keys = ("skip", position)
        values = checking.mapping(SkipFields, given, keys, faults)
        if values is None:
            continue
        when = condition(values["when"], (*keys, "when"), chosen, faults)
        if when is not None:
            rules.append((SkipRule(when, values["because"]), keys))
    return rules


def expectations(
    document: Document,
    chosen: Chosen,
    infos: Sequence[DataInfo],
    recorded: frozenset[str],
    faults: Faults,
) -> tuple[Expectation, ...]:
    """The published figures. recorded: metrics that every trial records at each evaluation."""
    found = []
    for position, given in enumerate(_items(document, "expect", faults)):
        keys: Keys = ("expect", position)
        values = checking.mapping(ExpectFields, given, keys, faults)
        if values is None:
            continue
        place = (*keys, "metric")
        metric = values["metric"]
        plain = metric.removeprefix(FINAL).removeprefix(BEST)
        # A condition may choose among data sets, so one that fits is enough.
        fitting = infos if not values["where"] else []
        selection = resolve(plain, fitting, place, faults)
        if selection is not None and metric.startswith(BEST) and selection.name not in recorded:
            hint = f"add {selection.name} to trial.metrics"
            faults.add(place, "is not recorded at each evaluation, so no best is known", hint)
        where = condition(values["where"], (*keys, "where"), chosen, faults)
        if where is not None and selection is not None:
            found.append(Expectation(**{**values, "where": where}))
    return tuple(found)


def _items(document: Document, name: str, faults: Faults) -> list[Any]:
    value = document.values.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        faults.add((name,), f"must be a list, given {shown(value)}")
        return []
    return value


def condition(
    given: Mapping[str, Any], keys: Keys, chosen: Chosen, faults: Faults
) -> dict[str, Any] | None:
    """A condition with its fields and values checked; None after reporting faults."""
    sound = [
        _is_sound(field, wanted, (*keys, field), chosen, faults) for field, wanted in given.items()
    ]
    return dict(given) if all(sound) else None


def _is_sound(field: str, wanted: Any, keys: Keys, chosen: Chosen, faults: Faults) -> bool:
    root, option = split(field)
    if not is_known(field):
        allowed = [name for name in TRIAL_FIELDS if not option or name in COMPONENT_FIELDS]
        hint = did_you_mean(root if option else field, allowed)
        faults.add(keys, "unknown field", hint)
        return False
    if option:
        return check_option(field, chosen.get(root, ()), keys, faults)
    if field in LIST_FIELDS:
        return _accepted(field, wanted, keys, faults)
    if not isinstance(wanted, list):
        return _accepted(field, wanted, keys, faults)
    if not wanted:
        faults.add(keys, "an empty list matches nothing")
    accepted = [_accepted(field, item, (*keys, i), faults) for i, item in enumerate(wanted)]
    return bool(wanted) and all(accepted)


def _accepted(field: str, wanted: Any, keys: Keys, faults: Faults) -> bool:
    """Whether a field could have this value."""
    if field in COMPONENT_FIELDS:
        reference = refer(field, wanted, keys, faults)
        options: dict[str, Option] = {}
        return reference is not None and choose(reference, options, faults.add) is not None
    if field in COMPONENT_LIST_FIELDS:
        if isinstance(wanted, list) and any(isinstance(i, list) or i == "none" for i in wanted):
            found = [augmentations(item, (*keys, i), faults) for i, item in enumerate(wanted)]
            return None not in found
        return augmentations(wanted, keys, faults) is not None
    if field == "metrics":
        return True
    return checking.value(TrialFields, field, wanted, keys, faults) is not INVALID
