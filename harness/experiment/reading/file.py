"""An experiment file: its values, the line of each, and the problems found so far.

`key=value` overrides change the values after the file is read:

lr=0.01                        one value: `trial.lr`, in place of a grid axis
lr=[0.01,0.1]                  a list: the grid axis, in place of `trial.lr`
model.hidden=[32]              an option of whatever component is chosen
trial.epochs=1  grid.seed=[0]  an entry of one section; grid.0.seed=[0]: of the first sub-grid
search.trials=5  name=x        any other field of the file
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.components.base import KINDS
from harness.components.code.source import UserCode, load_entry
from harness.components.registry import activate, components
from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.text import plural
from harness.experiment.experiment import PYTHON
from harness.experiment.fields import COMPONENT_KINDS, FileFields, is_known, json_types, split
from harness.experiment.reading import yaml
from harness.experiment.reading.hints import field_hint
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import LIST_FIELDS, TRIAL_FIELDS


@dataclass(slots=True)
class ExperimentFile:
    """An experiment file and the problems found in it.

    path: PYTHON, in the working folder, for values that Python code gives: their place is their
        name ("grid.model[0]"), and not a line.
    values: the top-level mapping, with plain values throughout.
    lines: the line of each value; for values from Python, their order.
    sha256: the file's checksum.
    overrides: the text of each override, by the place that it set.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Keys, int] = field(default_factory=dict)
    sha256: str = ""
    overrides: dict[Keys, str] = field(default_factory=dict)
    _problems: dict[Problem, tuple[int, int]] = field(default_factory=dict)

    def section(self, name: str) -> dict[str, Any]:
        """Returns the mapping under a top-level key; empty where there is none."""
        return self.mapping((name,))

    def mapping(self, place: Keys) -> dict[str, Any]:
        """Returns the mapping at a place; empty where there is none."""
        value: Any = self.values
        for key in place:
            held = isinstance(value, list) or (isinstance(value, dict) and key in value)
            value = value[key] if held else None
        return value if isinstance(value, dict) else {}

    def grids(self) -> list[tuple[Keys, dict[str, Any]]]:
        """Returns the sub-grids, each with its place: those of the list under `grid`, or the one
        mapping there, empty where there is none."""
        grid = self.values.get("grid")
        if not isinstance(grid, list):
            return [(("grid",), self.section("grid"))]
        places: list[tuple[Keys, dict[str, Any]]] = [
            (("grid", i), item) for i, item in enumerate(grid) if isinstance(item, dict)
        ]
        return places or [(("grid",), {})]

    def holds(self, keys: Keys) -> bool:
        """Whether the file or an override gives a value at exactly this place."""
        return keys in self.overrides or keys in self.lines

    def where(self, keys: Keys) -> str:
        """Returns "file.yaml:7" or "override 'lr=0.01'" for a value, or for the nearest value
        around it."""
        near = self._nearest(keys)
        if near in self.overrides:
            return f"override {self.overrides[near]!r}"
        if self.path.name == PYTHON:
            return dotted(near)
        return f"{self.path}:{self.lines.get(near, 1)}"

    def overridden(self, name: str) -> bool:
        """Whether an override set this trial field, an option of it, or its whole section."""
        return any(
            len(keys) == 1 or isinstance(keys[-1], int) or split(str(keys[-1]))[0] == name
            for keys in self.overrides
            if keys[0] in {"trial", "grid"}
        )

    def forget(self, keys: Keys) -> None:
        """Drops the lines and overrides of a value that is replaced, and of all values in it."""
        for places in (self.lines, self.overrides):
            for place in [place for place in places if place[: len(keys)] == keys]:
                del places[place]

    def report(self, keys: Keys, rule: str, hint: str = "") -> None:
        """Reports a broken rule at a place: "must be greater than 0, given -1"."""
        self.report_text(keys, f"{dotted(keys)}: {rule}" if keys else rule, hint)

    def report_text(self, keys: Keys, what: str, hint: str = "") -> None:
        """Reports a problem whose text does not begin with its place. Equal problems count once."""
        self.report_error(keys, InputError(Problem(what, hint=hint)))

    def report_unknown(self, keys: Keys, allowed: Iterable[str]) -> None:
        """Reports that the last of `keys` is not among the allowed names."""
        name, inside = str(keys[-1]), [key for key in keys[:-1] if isinstance(key, str)]
        of_section = len(inside) < 2
        hint = field_hint(name, allowed, "".join(inside)) if of_section else ""
        self.report(keys, "unknown field", hint or did_you_mean(name, allowed))

    def report_error(self, keys: Keys, error: InputError) -> None:
        """Reports the problems of an error, placed at `keys` unless they say where they are."""
        near = self._nearest(keys)
        order = (0, self.lines.get(near, 0))
        if near in self.overrides:
            order = (1, list(self.overrides).index(near))
        for problem in error.problems:
            where = problem.where or self.where(keys)
            if problem.what.startswith(where):  # It names its place, in Python's values.
                where = ""
            placed = Problem(problem.what, where, problem.hint)
            self._problems.setdefault(placed, order)

    @property
    def has_problems(self) -> bool:
        return bool(self._problems)

    def raise_problems(self) -> None:
        """Raises InputError with all problems, in the order of the file, overrides last."""
        if self._problems:
            raise InputError(sorted(self._problems, key=lambda problem: self._problems[problem]))

    def _nearest(self, keys: Keys) -> Keys:
        return next((keys[:n] for n in range(len(keys), 0, -1) if self.holds(keys[:n])), ())


def dotted(keys: Keys) -> str:
    """Returns the path to a value as people write it: "grid.optimizer[1].beta"."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


def read_file(path: Path) -> ExperimentFile:
    """Reads an experiment file. Raises InputError for a file that is not a YAML mapping."""
    parsed = yaml.read(path)
    if parsed.values is None:
        raise InputError(Problem("is empty", where=str(path)))
    if not isinstance(parsed.values, dict):
        raise InputError(Problem("must be a mapping of fields", where=f"{path}:1"))
    return ExperimentFile(path, parsed.values, dict(parsed.lines), parsed.sha256)


def apply_overrides(file: ExperimentFile, overrides: Iterable[str]) -> None:
    """Applies overrides to a file, the last of equal keys winning.

    Reports every override that cannot be read or names no field.
    """
    for override in overrides:
        try:
            _apply(file, override)
        except InputError as error:
            problems = [Problem(p.what, f"override {override!r}", p.hint) for p in error.problems]
            file.report_error((), InputError(problems))


def code_entries(file: ExperimentFile) -> tuple[str, ...]:
    """Returns the files and modules after `code:`. What is not text is left to validation."""
    named = file.values.get("code") or []
    entries = named if isinstance(named, list) else [named]
    return tuple(entry for entry in entries if isinstance(entry, str))


def possible_references(file: ExperimentFile) -> frozenset[str]:
    """Returns every text of the file that may name code by its place, as "my_net.py:Net"."""
    found: set[str] = set()
    waiting: list[Any] = [file.values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and ":" in value:
            found.add(value)
    return frozenset(found)


def load_code(file: ExperimentFile) -> None:
    """Runs the code that the file names after `code:`, so that its components are known.

    Raises InputError if it cannot be run: nothing else of the file could be understood.
    """
    code = UserCode(file.path.resolve().parent, code_entries(file))
    named = file.values.get("code")
    for entry in code.entries:
        place: Keys = ("code", named.index(entry)) if isinstance(named, list) else ("code",)
        try:
            load_entry(code.folder, entry)
        except InputError as error:
            file.report_error(place, error)
    file.raise_problems()
    activate(code, reload=True)
    try:
        for kind in KINDS:
            components(kind)
    except InputError as error:
        file.report_error(("code",), error)
        file.raise_problems()


def _apply(file: ExperimentFile, override: str) -> None:
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not key:
        raise InputError("must be key=value")
    value = yaml.parse(text, "").values
    root, name = split(re.sub(r"^grid\[(\d+)\]", r"grid.\1", key))
    if root in {"trial", "grid"}:
        for place, entry in _sections(file, root, name) if name else [((root,), "")]:
            _drop_option(file, place, entry)
            _set(file, (*place, entry) if entry else place, value, override)
    elif root in FileFields.model_fields:
        _set(file, tuple(key.split(".")), value, override)
    elif is_known(key):
        _set_trial_field(file, key, value, override)
    else:
        allowed = (*FileFields.model_fields, *TRIAL_FIELDS)
        raise InputError(Problem(f"{key}: unknown field", hint=field_hint(key, allowed)))


def _set_trial_field(file: ExperimentFile, name: str, value: Any, override: str) -> None:
    """Sets a field that no section is named for: a list is an axis, else one value for all trials.
    Whatever the file said of the field is replaced."""
    is_axis = isinstance(value, list) and (
        not _takes_list(file, name)
        or (bool(value) and all(isinstance(item, list) for item in value))
    )
    grids = [place for place, _ in file.grids()]
    places, others = (grids, [("trial",)]) if is_axis else ([("trial",)], grids)
    for place in (*places, *others):
        _drop_option(file, place, name)
    for place in others:
        file.mapping(place).pop(name, None)
        file.forget((*place, name))
    for place in places:
        _set(file, (*place, name), value, override)


def _sections(file: ExperimentFile, root: str, name: str) -> list[tuple[Keys, str]]:
    """Returns the mappings that `trial.NAME`, `grid.NAME` or `grid.0.NAME` is about, with the name
    within them. `grid.NAME` sets the axis in each sub-grid of a list."""
    if root == "trial":
        return [(("trial",), name)]
    number, _, entry = name.partition(".")
    if not number.removeprefix("-").isdecimal():
        return [(place, name) for place, _ in file.grids()]
    places, count = [place for place, _ in file.grids()], len(file.values.get("grid") or ())
    if places == [("grid",)]:
        raise InputError(Problem("the file has one grid, not a list", hint=f"write grid.{entry}"))
    if not 0 <= int(number) < count:
        hint = f"allowed: grid.0 … grid.{count - 1}"
        raise InputError(Problem(f"grid.{number}: the file has {plural(count, 'grid')}", hint=hint))
    return [(("grid", int(number)), entry)]


def _takes_list(file: ExperimentFile, name: str) -> bool:
    """Whether the value of a trial field is itself a list: that of `augment`, or of an option of a
    component that the file names (of any component, where it names none that is registered)."""
    root, option = split(name)
    if not option:
        return root in LIST_FIELDS
    axes = [grid.get(root) for _, grid in file.grids()]
    listed = [item for axis in axes if isinstance(axis, list) for item in axis]
    items = [file.section("trial").get(root), *listed]
    names = [item.get("name") if isinstance(item, dict) else item for item in items]
    known = components(COMPONENT_KINDS[root])
    chosen = [known[name] for name in names if isinstance(name, str) and name in known]
    owners = [c.options for c in chosen or known.values() if option in c.options.model_fields]
    return any("array" in json_types(options, option) for options in owners)


def _drop_option(file: ExperimentFile, place: Keys, name: str) -> None:
    """Removes an option from the components that `trial` or a grid names, since an override sets
    it."""
    root, option = split(name)
    content = file.mapping(place)
    if not option or root not in content:
        return
    is_grid = place[0] == "grid"
    chosen = content[root] if is_grid else [content[root]]
    for position, component in enumerate(chosen if isinstance(chosen, list) else []):
        if isinstance(component, dict) and option in component:
            del component[option]
            file.forget((*place, root, *((position,) if is_grid else ()), option))


def _set(file: ExperimentFile, keys: Keys, value: Any, override: str) -> None:
    """Sets the value at `keys`, creating the mappings around it."""
    parent: Any = file.values
    for depth, key in enumerate(keys[:-1]):
        if isinstance(parent, dict) and parent.get(key) is None:
            parent[key] = {}
        parent = parent[key]
        if isinstance(parent, list) and isinstance(keys[depth + 1], int):
            continue
        if not isinstance(parent, dict):
            raise InputError(
                f"{'.'.join(map(str, keys[: depth + 1]))} is not a mapping in the file"
            )
    parent[keys[-1]] = value
    file.forget(keys)
    file.overrides[keys] = override
