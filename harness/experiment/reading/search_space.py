"""Reads the search space: for each field a range of numbers, or a list of values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor, isinf, ulp
from typing import Any, Final

from harness.components.base import SINGULAR
from harness.core.text import format_value
from harness.experiment.experiment import (
    CategoricalDimension,
    Dimension,
    NumericDimension,
)
from harness.experiment.fields import (
    COMPONENT_KINDS,
    RangeFields,
    TrialFields,
    is_known,
    json_types,
    split,
)
from harness.experiment.ranges import at_step, count_steps, is_on_step
from harness.experiment.reading.components import (
    ComponentReference,
    Entry,
    check_data,
    check_option,
    find_component,
    make_choice,
    read_value,
)
from harness.experiment.reading.file import ExperimentFile
from harness.experiment.reading.hints import field_hint
from harness.experiment.reading.trial_fields import ReadFields
from harness.experiment.reading.validation import INVALID, shown, validate_mapping
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    DECLARATIONS,
    TRIAL_FIELDS,
    value_label,
)

NOT_SEARCHED: Final = {
    name: declared.not_searched for name, declared in DECLARATIONS.items() if declared.not_searched
}


@dataclass(slots=True)
class SpaceReader:
    """Reads dimensions and values of the search space. read: what the file says of the trials."""

    file: ExperimentFile
    read: ReadFields

    def dimension(self, name: str, value: Any, keys: Keys) -> Dimension | None:
        """Returns the dimension of one field; None after reporting the problem."""
        if not self._may_be_searched(name, keys):
            return None
        if isinstance(value, Mapping):
            return self._range(name, value, keys)
        if isinstance(value, list):
            return self._list(name, value, keys)
        rule = f"must be a range {{low: …, high: …}} or a list of values, given {shown(value)}"
        self.file.report(keys, rule)
        return None

    def axis(self, name: str, entries: list[Entry]) -> CategoricalDimension | None:
        """Returns an axis of the grid as a dimension; None after reporting an invalid value."""
        given = [entry for entry in entries if entry.value is not INVALID]
        values = [self.value(name, entry.value, entry.keys) for entry in given]
        return None if INVALID in values else CategoricalDimension(name, tuple(values))

    def value(self, name: str, value: Any, keys: Keys) -> Any:
        """Returns one value of a field as `Trial` takes it, or INVALID after a report."""
        root, option = split(name)
        if option:
            return self._option(root, option, value, keys)
        if root in COMPONENT_FIELDS:
            return self._component(root, value, keys)
        return read_value(root, value, keys, self.file)

    def _may_be_searched(self, name: str, keys: Keys) -> bool:
        root, option = split(name)
        if not is_known(name):
            allowed = [field for field in TRIAL_FIELDS if field not in NOT_SEARCHED]
            self.file.report(keys, "unknown field", field_hint(name, allowed))
            return False
        if root in NOT_SEARCHED:
            self.file.report(keys, f"cannot be searched: {NOT_SEARCHED[root]}")
            return False
        if not option:
            return True
        if not check_option(name, self.read.chosen()[root], keys, self.file):
            return False
        has_owners = bool(self.read.owners(root, option))
        # An override may have narrowed the components to those without the option.
        if not has_owners and not self.file.overridden(root):
            searched = [reference.component for reference in self.read.searched.get(root, ())]
            chosen = searched or self.read.chosen()[root]
            names = ", ".join(dict.fromkeys(component.name for component in chosen))
            where = "search.space" if searched else "this file"
            rule = f"no {SINGULAR[COMPONENT_FIELDS[root]]} of {where} has an option {option!r}"
            self.file.report(keys, f"{rule}: {names}")
        return has_owners

    def _option(self, root: str, option: str, value: Any, keys: Keys) -> Any:
        """Validates the value with every component that a search may choose with the option."""
        validated = INVALID
        fixed = self.read.entries.fixed_options(root)
        for owner in self.read.owners(root, option):
            known = owner.component.options.model_fields
            apart = {n: entry for n, entry in fixed.items() if n in known}
            apart[option] = Entry(value, keys)
            own = {n: v for n, v in owner.options.items() if n not in apart}
            reference = ComponentReference(owner.component, own, owner.keys)
            choice = make_choice(reference, apart, self.file.report)
            if choice is None:
                return INVALID
            validated = getattr(choice.options, option)
        return validated

    def _component(self, root: str, value: Any, keys: Keys) -> Any:
        reference = find_component(root, value, keys, self.file)
        fixed = self.read.entries.fixed_options(root)
        choice = make_choice(reference, fixed, self.file.report) if reference else None
        if choice is None:
            return INVALID
        for dataset, info in self.read.infos.items():
            check_data(choice, dataset, info, keys, self.file)
        return choice

    def _list(self, name: str, value: list[Any], keys: Keys) -> CategoricalDimension | None:
        if not value:
            self.file.report(keys, "a list of values must not be empty")
            return None
        dimension = self.axis(name, [Entry(item, (*keys, i)) for i, item in enumerate(value)])
        labels = [value_label(member) for member in dimension.values] if dimension else []
        for position, label in enumerate(labels):
            if label in labels[:position]:
                self.file.report((*keys, position), f"{label} is given twice")
        return dimension

    def _range(self, name: str, value: Mapping[str, Any], keys: Keys) -> NumericDimension | None:
        if name in COMPONENT_KINDS and "name" in value:
            self.file.report(keys, "must be a list of components", "put it in brackets")
            return None
        types = self._types(name)
        if not types & {"integer", "number"}:
            hint = "list the values, as [a, b]"
            self.file.report(keys, "must be a list: only numbers have a range", hint)
            return None
        integer = "number" not in types
        if integer and isinstance(value.get("step"), float):
            rule = f"must be an integer, given {shown(value['step'])}"
            self.file.report((*keys, "step"), rule)
        example = "a range is {low: …, high: …}"
        bounds = validate_mapping(RangeFields, value, keys, self.file, example)
        if bounds is None or not self._is_ordered(**bounds, keys=keys):
            return None
        # Each bound must be a value of the field, too.
        low, high = (self.value(name, value[bound], (*keys, bound)) for bound in ("low", "high"))
        if INVALID in (low, high):
            return None
        return NumericDimension(name, low, high, bounds["log"], value.get("step"), integer)

    def _is_ordered(
        self, low: float, high: float, log: bool, step: float | None, keys: Keys
    ) -> bool:
        """Whether the bounds and the step of a range fit together. Reports it otherwise."""
        if low > high:
            rule = f"{format_value(low)} lies above high, {format_value(high)}"
            self.file.report((*keys, "low"), rule)
        elif log and low <= 0:
            rule = f"must be greater than 0 on a logarithmic scale, given {format_value(low)}"
            self.file.report((*keys, "low"), rule)
        elif step is not None and log:
            rule = "a logarithmic range has no step"
            self.file.report((*keys, "step"), rule, "keep one of them")
        elif isinf(high - low):
            self.file.report((*keys, "high"), "lies too far above low for a range of floats")
        elif step is not None and not is_on_step(low, high, step):
            last = at_step(low, step, floor(count_steps(low, high, step)))
            rule = f"{format_value(high)} is not a whole number of steps above low"
            self.file.report((*keys, "high"), rule, f"the last step is {format_value(last)}")
        elif step is not None and step < max(ulp(low), ulp(high)):
            rule = f"is finer than a float can tell apart near {format_value(high)}"
            self.file.report((*keys, "step"), f"{format_value(step)} {rule}")
        else:
            return True
        return False

    def _types(self, name: str) -> set[str]:
        """Returns what a field is in JSON Schema's terms: "number", "integer", …"""
        root, option = split(name)
        if not option:
            return json_types(TrialFields, root)
        owners = self.read.owners(root, option)
        return set().union(*(json_types(owner.component.options, option) for owner in owners))
