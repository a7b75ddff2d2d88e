"""The grid: what each trial field may be, which combinations are trials, and conditions on trials.

A condition is the `when:` of a skip rule or the `where:` of a published figure:
`{optimizer: adam, lr: [0.1, 1.0]}` holds of a trial whose optimizer is Adam, with any options, and
whose learning rate is either of the two.

A field's value is worked out once for each distinct choice, never once for each trial: a
combination holds a position on each axis, and a `GridField` maps the positions that it depends on
to its `FieldValue`. So ten thousand trials cost ten thousand look-ups.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from harness.experiment.trial import COMPONENT_LIST_FIELDS, NO_AUGMENTATION, Trial

if TYPE_CHECKING:
    from harness.experiment.reading.yaml import Keys

Indices = tuple[int, ...]
"""Positions on the axes: a combination, or the part of it that one field depends on. A position
after the last value means that the combination's sub-grid does not have the axis."""

SubGrids = tuple[tuple[range, ...], ...]
"""The positions of each sub-grid on each axis. A grid that is one mapping has one sub-grid."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the grid: a trial field, dotted where nested ("optimizer.weight_decay").

    values: validated, in the file's order: a `Choice` for a component, else a scalar or a tuple.
    """

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Combinations left out. when: a condition by field."""

    when: Mapping[str, Any]
    because: str


@dataclass(frozen=True, slots=True, eq=False)
class FieldValue:
    """The value of one trial field in some combinations.

    value: as `Trial` takes it; None where it is invalid.
    plain: as `Trial.resolved()` gives it, which conditions read.
    keys: its place in the file.
    problems: why an invalid value is so: place, rule and hint. They are reported only where a
        combination with this value is not skipped; empty where they are reported already.
    """

    value: Any
    plain: Any
    keys: Keys
    valid: bool = True
    problems: tuple[tuple[Keys, str, str], ...] = ()


REPORTED: Final = FieldValue(None, None, (), valid=False)
"""An invalid value whose problem is reported already."""


@dataclass(frozen=True, eq=False)
class GridField:
    """One trial field over the whole grid. axes: the positions of the axes it depends on."""

    name: str
    axes: tuple[int, ...]
    values: Mapping[Indices, FieldValue]

    @cached_property
    def pick(self) -> Callable[[Indices], Indices]:
        """Takes this field's part out of a combination."""
        return _picker(self.axes)

    def of(self, combination: Indices) -> FieldValue:
        return self.values[self.pick(combination)]


@dataclass(frozen=True, slots=True)
class Grid:
    """The combinations of the axes: the product of each sub-grid's values, one after another.

    combinations: those that are trials, in grid order, the last axis varying fastest.
    skipped: those left out, each with the position of the first rule that leaves it out.
    """

    axes: tuple[Axis, ...] = ()
    parts: SubGrids = ((),)
    fields: Mapping[str, GridField] = field(default_factory=dict)
    combinations: tuple[Indices, ...] = ()
    skipped: tuple[tuple[Indices, int], ...] = ()

    def distinct(self, names: Sequence[str]) -> Iterator[tuple[FieldValue, ...]]:
        """Yields the values of these fields that occur together in some combination, each
        tuple once."""
        chosen = [self.fields[name] for name in names]
        pick = _picker(tuple({axis for field in chosen for axis in field.axes}))
        by_part = {pick(combination): combination for combination in self.combinations}
        for combination in by_part.values():
            yield tuple(field.of(combination) for field in chosen)


def _picker(axes: tuple[int, ...]) -> Callable[[Indices], Indices]:
    """Returns a function that takes these positions out of a combination, always as a tuple."""
    if not axes:
        return lambda _: ()
    if len(axes) == 1:
        only = axes[0]
        return lambda combination: (combination[only],)
    return itemgetter(*axes)


def enumerate_grid(
    axes: tuple[Axis, ...],
    parts: SubGrids,
    fields: Mapping[str, GridField],
    rules: Sequence[SkipRule],
) -> tuple[Grid, tuple[int, ...]]:
    """Returns the grid, and how many combinations each skip rule matches."""
    tests = [_test(rule, fields) for rule in rules]
    counts: Counter[int] = Counter()
    combinations: list[Indices] = []
    skipped: list[tuple[Indices, int]] = []
    for combination in chain.from_iterable(product(*part) for part in parts):
        matched = [
            number
            for number, test in enumerate(tests)
            if all(pick(combination) in matching for pick, matching in test)
        ]
        counts.update(matched)
        if matched:
            skipped.append((combination, matched[0]))
        else:
            combinations.append(combination)
    grid = Grid(axes, parts, fields, tuple(combinations), tuple(skipped))
    return grid, tuple(counts[number] for number in range(len(rules)))


def _test(
    rule: SkipRule, fields: Mapping[str, GridField]
) -> list[tuple[Callable[[Indices], Indices], frozenset[Indices]]]:
    """Returns, for each field of the rule, the indices where its condition holds: it is decided
    once for each value."""
    test = []
    for name, wanted in rule.when.items():
        of_grid = fields[name.partition(".")[0]]
        cells = of_grid.values.items()
        matching = frozenset(at for at, cell in cells if _field_matches(name, wanted, cell.plain))
        test.append((of_grid.pick, matching))
    return test


Plain = Any
"""A field as `Trial.resolved()` gives it: a component as {"name": …, option: value}."""


def matches(condition: Mapping[str, Any], trial: Trial | Mapping[str, Plain]) -> bool:
    """Whether every field of the condition holds of a trial, or of its `resolved()` form.

    A field may be dotted into a component ("optimizer.momentum"); it does not hold of a component
    without that option.
    """
    fields = trial.resolved() if isinstance(trial, Trial) else trial
    return all(
        _field_matches(field, wanted, fields.get(field.partition(".")[0]))
        for field, wanted in condition.items()
    )


def _field_matches(field: str, wanted: Any, value: Plain) -> bool:
    """Whether one field of a condition holds. value: of the field's root, the whole component.

    wanted: a value; a component's name, or a mapping of its name and some of its options; or a
    list, which means any of its items (or the list itself, where the field's value is a list).
    """
    root, _, option = field.partition(".")
    if root in COMPONENT_LIST_FIELDS:
        return _augment_matches(wanted, value or [])
    if option:
        if not isinstance(value, Mapping) or option not in value:
            return False
        value = value[option]
    alternatives = wanted if isinstance(wanted, (list, tuple)) else []
    return any(_equal(item, value) for item in (wanted, *alternatives))


def _augment_matches(wanted: Any, value: list[Plain]) -> bool:
    """`none` is the empty list, and one name a list of one."""
    if wanted == NO_AUGMENTATION:
        return not value
    if not isinstance(wanted, (list, tuple)):
        return _equal([wanted], value)
    return _equal(wanted, value) or any(
        _augment_matches(item, value)
        for item in wanted
        if item == NO_AUGMENTATION or isinstance(item, list)
    )


def _equal(wanted: Any, value: Plain) -> bool:
    if isinstance(value, Mapping) and "name" in value:
        if isinstance(wanted, Mapping):
            return all(key in value and _equal(item, value[key]) for key, item in wanted.items())
        return bool(wanted == value["name"])
    if isinstance(wanted, (list, tuple)) and isinstance(value, (list, tuple)):
        return len(wanted) == len(value) and all(map(_equal, wanted, value))
    if isinstance(wanted, bool) or isinstance(value, bool):
        return wanted is value
    return bool(wanted == value)
