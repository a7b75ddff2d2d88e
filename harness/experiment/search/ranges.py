"""Reads one entry of a search's space: a range of numbers, or a list of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from harness.components.base import Loss, Model
from harness.components.registry import SINGULAR
from harness.core.errors import did_you_mean
from harness.core.text import format_value
from harness.experiment.experiment import (
    CategoricalDimension,
    Dimension,
    NumericDimension,
    on_step,
    value_label,
)
from harness.experiment.fields import COMPONENT_KINDS, TrialFields, is_known, split
from harness.experiment.reading import values as checking
from harness.experiment.reading.components import (
    Option,
    Reference,
    augmentations,
    check_option,
    choose,
    refer,
)
from harness.experiment.reading.document import Document, Faults
from harness.experiment.reading.factors import Given
from harness.experiment.reading.messages import shown
from harness.experiment.reading.rules import Chosen
from harness.experiment.reading.space import Space
from harness.experiment.reading.values import INVALID
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    DECLARATIONS,
    TRIAL_FIELDS,
)

BOUNDS: Final = ("low", "high", "log", "step")
NOT_SEARCHED: Final = {
    name: declared.not_searched for name, declared in DECLARATIONS.items() if declared.not_searched
}


@dataclass(slots=True)
class Reader:
    """Reads entries against what the file says of the trials. chosen: the components it names."""

    source: Document
    given: Given
    space: Space
    chosen: Chosen
    faults: Faults

    def dimension(self, name: str, asked: Any, keys: Keys) -> Dimension | None:
        """What to search of one field; None after reporting what is wrong."""
        if not self._exists(name, keys):
            return None
        if isinstance(asked, Mapping):
            return self._range(name, asked, keys)
        if isinstance(asked, list):
            return self._among(name, asked, keys)
        rule = f"must be a range {{low: …, high: …}} or a list of values, given {shown(asked)}"
        self.faults.add(keys, rule)
        return None

    def axis(self, name: str, options: list[Option]) -> CategoricalDimension | None:
        """An axis of the grid, searched as a list; None where a value of it is reported."""
        values = [self.value(name, option.value, option.keys) for option in options]
        return None if INVALID in values else CategoricalDimension(name, tuple(values))

    def value(self, name: str, given: Any, keys: Keys) -> Any:
        """One value of a field as `Trial` takes it, or INVALID after a report."""
        root, option = split(name)
        if option:
            return self._option(root, option, given, keys)
        if root in COMPONENT_FIELDS:
            return self._component(root, given, keys)
        if root in COMPONENT_LIST_FIELDS:
            choices = augmentations(given, keys, self.faults)
            return INVALID if choices is None else choices
        return checking.value(TrialFields, root, given, keys, self.faults)

    def _exists(self, name: str, keys: Keys) -> bool:
        root, option = split(name)
        if not is_known(name):
            allowed = [f for f in TRIAL_FIELDS if f not in NOT_SEARCHED]
            self.faults.add(keys, "unknown field", did_you_mean(root if option else name, allowed))
            return False
        if root in NOT_SEARCHED:
            self.faults.add(keys, f"is not searched: {NOT_SEARCHED[root]}")
            return False
        if not option:
            return True
        chosen = self.chosen.get(root, ())
        if not check_option(name, chosen, keys, self.faults):
            return False
        if not self._owners(root, option):
            if self.source.overridden(root):
                return False  # An override narrowed the components to those without it.
            names = ", ".join(dict.fromkeys(component.name for component in chosen))
            kind = SINGULAR[COMPONENT_FIELDS[root]]
            self.faults.add(keys, f"no {kind} of this file has an option {option!r}: {names}")
            return False
        return True

    def _owners(self, root: str, option: str) -> list[Reference]:
        """The components of this file that have an option."""
        return [
            reference
            for reference in self.space.bases[root].references.values()
            if reference is not None and option in reference.component.options.model_fields
        ]

    def _option(self, root: str, option: str, given: Any, keys: Keys) -> Any:
        """Valid for every component of the file that has the option."""
        value = INVALID
        fixed = self.given.fixed_options(root)
        for owner in self._owners(root, option):
            known = owner.component.options.model_fields
            others = {n: o for n, o in fixed.items() if n in known} | {option: Option(given, keys)}
            own = {n: v for n, v in owner.given.items() if n not in others}
            choice = choose(Reference(owner.component, own, owner.keys), others, self.faults.add)
            if choice is None:
                return INVALID
            value = getattr(choice.options, option)
        return value

    def _component(self, root: str, given: Any, keys: Keys) -> Any:
        reference = refer(root, given, keys, self.faults)
        fixed = self.given.fixed_options(root)
        choice = choose(reference, fixed, self.faults.add) if reference else None
        if choice is None:
            return INVALID
        for info in self.space.infos.values():
            if isinstance(choice.component, Model):
                reason = choice.component.accepts(choice.options, info)
                if reason:
                    self.faults.add(keys, f"{choice.name} cannot take the data set: {reason}")
            if isinstance(choice.component, Loss) and info.task not in choice.component.tasks:
                rule = f"loss {choice.name!r} does not fit a {info.task} data set"
                self.faults.add(keys, rule)
        return choice

    def _among(self, name: str, asked: list[Any], keys: Keys) -> CategoricalDimension | None:
        if not asked:
            self.faults.add(keys, "a list of values must not be empty")
            return None
        values = [self.value(name, item, (*keys, i)) for i, item in enumerate(asked)]
        if INVALID in values:
            return None
        labels = [value_label(value) for value in values]
        for position, found in enumerate(labels):
            if found in labels[:position]:
                self.faults.add((*keys, position), f"{found} is given twice")
        return CategoricalDimension(name, tuple(values))

    def _range(self, name: str, asked: Mapping[str, Any], keys: Keys) -> NumericDimension | None:
        root, option = split(name)
        if not option and (root in COMPONENT_KINDS) and "name" in asked:
            self.faults.add(keys, "must be a list of components", "put it in brackets")
            return None
        for key in asked:
            if key not in BOUNDS:
                self.faults.unknown((*keys, key), BOUNDS)
        kinds = self._kinds(name)
        if not kinds & {"integer", "number"}:
            hint = "list the values, as [a, b]"
            self.faults.add(keys, "has no order that a range could follow", hint)
            return None
        if not self._bounded(asked, whole="number" not in kinds, keys=keys):
            return None
        bounds = [self.value(name, asked[bound], (*keys, bound)) for bound in ("low", "high")]
        if INVALID in bounds:
            return None
        low, high = bounds
        return NumericDimension(
            name, low, high, asked.get("log", False), asked.get("step"), "number" not in kinds
        )

    def _bounded(self, asked: Mapping[str, Any], whole: bool, keys: Keys) -> bool:
        """Whether the bounds go together; reports otherwise."""
        before = [asked.get(key) for key in ("low", "high")]
        sound = set(asked) <= set(BOUNDS)
        for key in ("low", "high", "step"):
            value = asked.get(key)
            if key not in asked and key != "step":
                self.faults.add(keys, f"{key} is missing", "a range is {low: …, high: …}")
                sound = False
            elif key in asked and not _is_number(value, whole):
                wanted = "an integer" if whole else "a number"
                self.faults.add((*keys, key), f"must be {wanted}, given {shown(value)}")
                sound = False
        if not isinstance(asked.get("log", False), bool):
            rule = f"must be true or false, given {shown(asked['log'])}"
            self.faults.add((*keys, "log"), rule)
            sound = False
        return sound and self._ordered(before[0], before[1], asked, keys)

    def _ordered(self, low: Any, high: Any, asked: Mapping[str, Any], keys: Keys) -> bool:
        log, step = asked.get("log", False), asked.get("step")
        if low > high:
            self.faults.add(
                (*keys, "low"), f"{format_value(low)} lies above high, {format_value(high)}"
            )
        elif log and low <= 0:
            rule = f"must be greater than 0 on a logarithmic scale, given {format_value(low)}"
            self.faults.add((*keys, "low"), rule)
        elif step is not None and log:
            self.faults.add((*keys, "step"), "a logarithmic range has no step", "keep one of them")
        elif step is not None and step <= 0:
            self.faults.add((*keys, "step"), f"must be greater than 0, given {format_value(step)}")
        elif step is not None and not on_step(high - low, step):
            last = low + (high - low) // step * step
            rule = f"{format_value(high)} is no whole number of steps above low"
            self.faults.add((*keys, "high"), rule, f"the last step is {last:g}")
        else:
            return True
        return False

    def _kinds(self, name: str) -> set[str]:
        """What a field is in JSON Schema's words: "number", "integer", …"""
        root, option = split(name)
        if not option:
            return _types(TrialFields, root)
        owners = self._owners(root, option)
        return set().union(*(_types(owner.component.options, option) for owner in owners))


@cache
def _types(fields: type[BaseModel], name: str) -> set[str]:
    declared = fields.model_json_schema()["properties"][name]
    members = declared.get("anyOf", [declared])
    return {member["type"] for member in members if "type" in member}


def _is_number(value: Any, whole: bool) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (isinstance(value, float) and not whole)
