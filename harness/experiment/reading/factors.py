"""Works out what each trial field may be, from the sections `trial:` and `grid:`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import prod
from typing import Any, Final

from harness.core.errors import did_you_mean
from harness.core.text import format_value
from harness.experiment.fields import BY_TASK, REQUIRED, TrialFields, is_known, split
from harness.experiment.grid import Axis, Cell, Factor, Fault, Indices
from harness.experiment.reading import values as checking
from harness.experiment.reading.components import Option, Reference, augmentations, choose, refer
from harness.experiment.reading.document import Document, Faults, dotted
from harness.experiment.reading.messages import shown
from harness.experiment.reading.values import INVALID
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import COMPONENT_FIELDS, COMPONENT_LIST_FIELDS, TRIAL_FIELDS, Choice

MAX_COMBINATIONS: Final = 100_000

UNUSABLE: Final = Cell(None, None, (), sound=False)
"""A value whose fault is reported already."""


@dataclass(slots=True)
class Given:
    """What a file gives for the trials. fixed: by field, one value. axes: by field, in order."""

    fixed: dict[str, Option] = field(default_factory=dict)
    axes: dict[str, list[Option]] = field(default_factory=dict)

    def position(self, name: str) -> int:
        return list(self.axes).index(name)

    def fixed_options(self, root: str) -> dict[str, Option]:
        """Options given apart from their component, as `trial: {optimizer.eps: …}`."""
        parts = ((split(name), option) for name, option in self.fixed.items())
        return {name: option for (of, name), option in parts if of == root and name}

    def option_axes(self, root: str) -> dict[str, int]:
        """Axes over an option, and their positions."""
        parts = ((split(name)[0], split(name)[1], i) for i, name in enumerate(self.axes))
        return {name: position for of, name, position in parts if of == root and name}


def gather(document: Document, faults: Faults) -> Given:
    """Reads `trial:` and `grid:`, reporting fields that do not exist and axes that are none."""
    given = Given()
    for name, value in document.section("trial").items():
        if value is None and name in BY_TASK:
            continue
        if _exists(name, ("trial", name), faults):
            given.fixed[name] = Option(value, ("trial", name))
    for name, values in document.section("grid").items():
        keys: Keys = ("grid", name)
        if not _exists(name, keys, faults):
            continue
        if name in given.fixed:
            place = document.where(("trial", name))
            faults.add(keys, f"is set in trial too ({place})", "keep one of the two")
        elif not isinstance(values, list):
            hint = "a single value belongs in trial"
            faults.add(keys, f"an axis must be a list, given {shown(values)}", hint)
        elif not values:
            faults.add(keys, "an axis must not be empty")
        if isinstance(values, list) and values:
            given.fixed.pop(name, None)
            given.axes[name] = [Option(v, (*keys, i)) for i, v in enumerate(values)]
        elif name in TRIAL_FIELDS:
            given.fixed.setdefault(name, Option(INVALID, keys))
    for name in REQUIRED:
        if name not in given.fixed and name not in given.axes:
            faults.put(("trial",), f"{name} is missing: give it in trial or in grid")
            given.fixed[name] = Option(INVALID, ("trial",))
    return given


def _exists(name: str, keys: Keys, faults: Faults) -> bool:
    root, option = split(name)
    if is_known(name):
        return True
    if option and root in TRIAL_FIELDS:
        faults.add(keys, f"{root} has no options of its own")
    else:
        allowed = [root for root in TRIAL_FIELDS if not option or root in COMPONENT_FIELDS]
        faults.add(keys, "unknown field", did_you_mean(root if option else name, allowed))
    return False


def too_many(given: Given, faults: Faults) -> bool:
    """Whether the grid is too large to be meant; reports it."""
    count = prod(len(options) for options in given.axes.values())
    if count > MAX_COMBINATIONS:
        faults.add(("grid",), f"asks for {count} combinations; at most {MAX_COMBINATIONS} are run")
    return count > MAX_COMBINATIONS


def plain_factor(name: str, given: Given, faults: Faults) -> Factor:
    """A field that holds no component (or the list of augmentations)."""
    if name in given.axes:
        position = given.position(name)
        options = given.axes[name]
        cells: dict[Indices, Cell] = {}
        cells |= {(i,): _plain_cell(name, option, faults) for i, option in enumerate(options)}
        factor = Factor(name, (position,), cells)
        _refuse_duplicates(factor, (position,), given, faults)
        return factor
    option = given.fixed.get(name)
    if option is None:
        option = Option(TrialFields.model_fields[name].default, ("trial", name))
    return Factor(name, (), {(): _plain_cell(name, option, faults)})


def _plain_cell(name: str, option: Option, faults: Faults) -> Cell:
    if option.value is INVALID:
        return UNUSABLE
    if name in COMPONENT_LIST_FIELDS:
        choices = augmentations(option.value, option.keys, faults)
        if choices is None:
            return UNUSABLE
        return Cell(choices, [choice.resolved() for choice in choices], option.keys)
    value = checking.value(TrialFields, name, option.value, option.keys, faults)
    if value is INVALID:
        return UNUSABLE
    return Cell(value, list(value) if isinstance(value, tuple) else value, option.keys)


@dataclass(frozen=True, slots=True)
class Base:
    """The components a field may hold, before options given apart from them are added.

    axes: positions of the axes that choose among them. own: whether the field's own axis does,
    and not the data set's.
    """

    axes: tuple[int, ...]
    references: Mapping[Indices, Reference | None]
    own: bool = True


def base_of(name: str, given: Given, faults: Faults) -> Base:
    """The components a file names for a field, or the field's default."""
    if name in given.axes:
        options = given.axes[name]
        found: dict[Indices, Reference | None] = {}
        found |= {(i,): refer(name, o.value, o.keys, faults) for i, o in enumerate(options)}
        return Base((given.position(name),), found)
    option = given.fixed.get(name) or Option(
        TrialFields.model_fields[name].default, ("trial", name)
    )
    if option.value is INVALID:
        return Base((), {(): None})
    return Base((), {(): refer(name, option.value, option.keys, faults)})


def component_factor(name: str, base: Base, given: Given, faults: Faults) -> Factor:
    """A field that holds a component, with every combination of options given apart from it."""
    fixed = given.fixed_options(name)
    varied = given.option_axes(name)
    axes = (*base.axes, *varied.values())
    names = list(given.axes)
    cells: dict[Indices, Cell] = {}
    for start, reference in base.references.items():
        for rest in product(*(range(len(given.axes[names[p]])) for p in varied.values())):
            options = dict(fixed)
            for (option, position), index in zip(varied.items(), rest, strict=True):
                options[option] = given.axes[names[position]][index]
            cells[(*start, *rest)] = _component_cell(reference, options, faults)
    factor = Factor(name, axes, cells)
    own = axes if base.own else tuple(varied.values())
    _refuse_duplicates(factor, own, given, faults)
    return factor


def _component_cell(
    reference: Reference | None, options: dict[str, Option], faults: Faults
) -> Cell:
    """Faults of the component itself are reported now; those of options given apart from it only
    where the combination is kept, for a skip rule may leave it out."""
    if reference is None:
        return UNUSABLE
    found: list[Fault] = []
    choice = choose(reference, options, lambda *fault: found.append(fault))
    if choice is not None:
        return Cell(choice, choice.resolved(), reference.keys)
    waiting = [fault for fault in found if _rests_on_options(fault[0], reference, options)]
    for fault in found:
        if fault not in waiting:
            faults.add(*fault)
    given = {**reference.given, **{name: option.value for name, option in options.items()}}
    plain = {"name": reference.component.name, **given}
    return Cell(None, plain, reference.keys, sound=False, faults=tuple(waiting))


def _rests_on_options(keys: Keys, reference: Reference, options: Mapping[str, Option]) -> bool:
    """Whether a fault lies in options given apart, or in how they go with the component's own."""
    apart = [option.keys for option in options.values()]
    return any(keys[: len(k)] == k for k in apart) or (bool(apart) and keys == reference.keys)


def _refuse_duplicates(factor: Factor, own: tuple[int, ...], given: Given, faults: Faults) -> None:
    """Reports two values of one axis that come to the same trial."""
    names = list(given.axes)
    for axis in own:
        place = factor.axes.index(axis)
        seen: dict[Any, int] = {}
        for key, cell in factor.cells.items():
            if not cell.sound:
                continue
            index = key[place]
            first = seen.setdefault((key[:place], key[place + 1 :], cell.value), index)
            if first != index:
                keys = given.axes[names[axis]][index].keys
                earlier = dotted(given.axes[names[axis]][first].keys)
                faults.add(keys, f"{_short(cell, names[axis])} is given twice, first as {earlier}")


def _short(cell: Cell, name: str) -> str:
    option = split(name)[1]
    if isinstance(cell.value, Choice):
        return format_value(getattr(cell.value.options, option)) if option else cell.value.label
    return shown(cell.plain)


def axes_of(
    given: Given, factors: Mapping[str, Factor], bases: Mapping[str, Base]
) -> tuple[Axis, ...]:
    """The axes with their validated values: a component's without options given apart from it."""
    return tuple(
        Axis(name, tuple(_axis_values(name, position, given, factors, bases)))
        for position, name in enumerate(given.axes)
    )


def _axis_values(
    name: str,
    position: int,
    given: Given,
    factors: Mapping[str, Factor],
    bases: Mapping[str, Base],
) -> Iterator[Any]:
    root, option = split(name)
    factor = factors[root]
    place = factor.axes.index(position)
    sound: dict[int, Any] = {}
    for key, cell in factor.cells.items():
        if cell.sound:
            sound.setdefault(key[place], cell.value)
    for index, written in enumerate(given.axes[name]):
        value = sound.get(index, written.value)
        if isinstance(value, Choice):
            reference = bases[root].references.get((index,))
            value = getattr(value.options, option) if option else _alone(reference, value)
        yield value


def _alone(reference: Reference | None, found: Choice[Any]) -> Choice[Any]:
    """The component as an axis names it; `found` where it is sound only with further options."""
    choice = choose(reference, {}, lambda *_: None) if reference else None
    return choice or found
