"""`key=value` after the file: what each one changes in the document.

lr=0.01                        one value: `trial.lr`, in place of a grid axis
lr=[0.01,0.1]                  a list: the grid axis, in place of `trial.lr`
model.hidden=[32]              an option of whatever component is chosen
trial.epochs=1  grid.seed=[0]  a section's own entry
search.trials=5  name=x        any other field of the file
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from harness.core.errors import InputError, Problem, did_you_mean
from harness.experiment.fields import FileFields, is_known, split
from harness.experiment.reading import yaml
from harness.experiment.reading.document import Document
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import TRIAL_FIELDS

TakesList = Callable[[str, set[str]], bool]
"""Whether a trial field's own value is a list, as that of `augment` and, of some of the models
named, `model.hidden`."""


def apply(document: Document, overrides: Iterable[str], takes_list: TakesList) -> None:
    """Changes the document in place, the last of equal keys winning.

    Raises InputError with every override that cannot be read or names no field.
    """
    problems: list[Problem] = []
    for given in overrides:
        try:
            _apply(document, given, takes_list)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)


def _apply(document: Document, given: str, takes_list: TakesList) -> None:
    key, equals, text = given.partition("=")
    key = key.strip()
    where = f"override {given!r}"
    if not equals or not key:
        raise InputError(Problem("must be key=value", where))
    value = _value(text, where)
    root = key.split(".")[0]
    if root in {"trial", "grid"}:
        _set_section(document, key, value, given)
    elif root in FileFields.model_fields:
        _set(document, tuple(key.split(".")), value, given)
    elif is_known(key):
        _set_field(document, key, value, given, takes_list)
    else:
        allowed = (*FileFields.model_fields, *TRIAL_FIELDS)
        hint = did_you_mean(root if "." in key else key, allowed)
        raise InputError(Problem(f"{key}: unknown field", where, hint))


def _value(text: str, where: str) -> Any:
    try:
        return yaml.parse(text, where).values
    except InputError as error:
        raise InputError([Problem(p.what, where, p.hint) for p in error.problems]) from None


def _set_section(document: Document, key: str, value: Any, given: str) -> None:
    """`trial.optimizer.eps=…` sets the option whether the file nests it or dots it."""
    section, _, field = key.partition(".")
    if not field:
        _set(document, (section,), value, given)
        return
    _drop_option(document, section, field)
    _set(document, (section, field), value, given)


def _set_field(
    document: Document, field: str, value: Any, given: str, takes_list: TakesList
) -> None:
    """A bare field: one value for all trials, or an axis, whatever the file said of it."""
    is_axis = isinstance(value, list) and (
        not takes_list(field, _named(document, split(field)[0]))
        or (bool(value) and all(isinstance(item, list) for item in value))
    )
    section, other = ("grid", "trial") if is_axis else ("trial", "grid")
    for either in (section, other):
        _drop_option(document, either, field)
    _remove(document, other, field)
    _set(document, (section, field), value, given)


def _named(document: Document, root: str) -> set[str]:
    """The names of the components that the file gives for a field."""
    fixed = document.section("trial").get(root)
    axis = document.section("grid").get(root)
    given = [fixed, *(axis if isinstance(axis, list) else [])]
    names = [item.get("name") if isinstance(item, dict) else item for item in given]
    return {name for name in names if isinstance(name, str)}


def _drop_option(document: Document, section: str, field: str) -> None:
    """Takes an option out of the components that a section names, since an override sets it."""
    root, option = split(field)
    content = document.section(section)
    if not option or root not in content:
        return
    chosen = content[root] if section == "grid" else [content[root]]
    for position, component in enumerate(chosen if isinstance(chosen, list) else []):
        if isinstance(component, dict) and option in component:
            del component[option]
            place: Keys = (position,) if section == "grid" else ()
            document.forget((section, root, *place, option))


def _set(document: Document, keys: Keys, value: Any, given: str) -> None:
    """Sets the value at `keys`, making the mappings on the way."""
    parent: Any = document.values
    for depth, key in enumerate(keys[:-1]):
        if parent.get(key) is None:
            parent[key] = {}
        parent = parent[key]
        if not isinstance(parent, dict):
            name = ".".join(map(str, keys[: depth + 1]))
            raise InputError(Problem(f"{name} is no mapping in the file", f"override {given!r}"))
    parent[keys[-1]] = value
    document.forget(keys)
    document.overrides[keys] = given


def _remove(document: Document, section: str, field: str) -> None:
    document.section(section).pop(field, None)
    document.forget((section, field))
