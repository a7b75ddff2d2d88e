"""Reads an experiment that Python code gives, as mappings and lists, in place of a file.

Classes and functions may stand where a component's name does. Ranges, arrays and tuples are lists,
and numpy's numbers are numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from harness.components.base import SINGULAR
from harness.components.code.objects import give, is_component_object, split_partial
from harness.components.registry import give as make_known
from harness.core.errors import InputError
from harness.experiment.experiment import PYTHON
from harness.experiment.reading.file import ExperimentFile, load_code
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import KIND_OF_FIELD

NAME: Final = "name"
LISTS: Final = (Sequence, Set, Iterator)
"""What is read as a list. Models and data sets can be iterated over too."""


def read_values(values: Mapping[str, Any]) -> ExperimentFile:
    """Returns the values of an experiment as if a file in the working folder had them.

    The code that `code` names is run. Raises InputError if it cannot be run, and for objects that
    are no components or stand where they cannot.
    """
    reader = _Reader(ExperimentFile(Path.cwd() / PYTHON, {}))
    file = reader.file
    file.values = {"code": reader.read(values.get("code"), ("code",))}
    load_code(file)
    file.values = reader.read(dict(values), ())
    file.raise_problems()  # What stands in the place of a wrong object would be a problem too.
    return file


def as_yaml(file: ExperimentFile) -> str:
    """Returns the values as an experiment file would have them, objects by their names."""
    return yaml.safe_dump(file.values, sort_keys=False, allow_unicode=True)


@dataclass(slots=True)
class _Reader:
    """Makes the plain values of YAML. names: of the objects that were met, by kind and id."""

    file: ExperimentFile
    names: dict[tuple[str, int], str] = field(default_factory=dict)

    def read(self, value: Any, keys: Keys) -> Any:
        self.file.lines[keys] = len(self.file.lines)
        if is_component_object(value):
            return self.component(value, keys)
        if isinstance(value, Mapping):
            return self.mapping(value, keys)
        if isinstance(value, Path):
            return str(value)
        if hasattr(value, "tolist") and value.ndim <= 1:  # Numbers of numpy, pandas and torch.
            value = value.tolist()
        if isinstance(value, LISTS) and not isinstance(value, (str, bytes)):
            return [self.read(item, (*keys, place)) for place, item in enumerate(value)]
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        return self.refuse(value, keys)

    def mapping(self, value: Mapping[Any, Any], keys: Keys) -> dict[str, Any]:
        named = value.get(NAME)
        if is_component_object(named) and _kind_of(keys):
            content = self.component(named, (*keys, NAME))
            options = content if isinstance(content, dict) else {NAME: content}
        else:
            options = {}
        rest = {str(key): item for key, item in value.items() if key not in options}
        return options | {key: self.read(item, (*keys, key)) for key, item in rest.items()}

    def component(self, value: Any, keys: Keys) -> Any:
        """Returns the name that stands for an object; for a `functools.partial`, with options."""
        kind = _kind_of(keys)
        if kind is None:
            return self.refuse(value, keys)
        try:
            target, options = split_partial(value)
            if (kind, id(target)) not in self.names:
                given = give(kind, target, self.file.path.parent)
                make_known(given)
                self.names[kind, id(target)] = given.name
        except InputError as error:
            for problem in error.problems:
                self.file.report(keys, problem.what, problem.hint)
            return None
        name = self.names[kind, id(target)]
        read = {key: self.read(item, (*keys, key)) for key, item in options.items()}
        return {NAME: name, **read} if options else name

    def refuse(self, value: Any, keys: Keys) -> None:
        """Reports an object that stands where it cannot."""
        kind = _kind_of(keys)
        if kind is not None and not is_component_object(value):
            rule = f"must be a class or a function, given an object, of {_name_of(type(value))}"
            hint = f"give the class, or a function that returns a new {SINGULAR[kind]}"
        elif is_component_object(value):
            rule = f"must be a plain value, given {_name_of(value)}"
            hint = "classes and functions stand for components; write a function with fewer options"
        else:
            rule, hint = f"must be a plain value, given an object, of {_name_of(type(value))}", ""
        self.file.report(keys, rule, hint)


def _name_of(value: Any) -> str:
    module, name = getattr(value, "__module__", ""), getattr(value, "__qualname__", repr(value))
    return name if module in ("builtins", "__main__") else f"{module}.{name}"


def _kind_of(keys: Keys) -> str | None:
    """Returns the kind of component whose name stands at a place; None of any other place."""
    names = list(_without_positions(keys))
    if len(names) > 1 and names[-1] == NAME:
        names.pop()
    in_fields = len(names) > 1 and names[0] in ("trial", "grid", "search", "skip", "expect")
    return KIND_OF_FIELD.get(names[-1]) if in_fields else None


def _without_positions(keys: Keys) -> Iterator[str]:
    return (key for key in keys if isinstance(key, str))
