"""The grid: what each trial field may be, and which combinations are kept.

A field's value is worked out once for each distinct choice, never once for each trial: a
combination is a row of positions on the axes, and a `Factor` turns the few of them that a field
depends on into its `Cell`. So ten thousand trials cost ten thousand look-ups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from harness.experiment.conditions import field_matches

if TYPE_CHECKING:
    from harness.experiment.reading.yaml import Keys

Indices = tuple[int, ...]
"""Positions on the axes: a combination, or the part of it that one field depends on."""

Fault = tuple["Keys", str, str]
"""Where, which rule, and a hint."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of the grid: a trial field, dotted where nested ("optimizer.weight_decay").

    values: validated, in the file's order: a `Choice` for a component, else a scalar or tuple.
    """

    field: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SkipRule:
    """Combinations left out. when: a condition by field (see `conditions`)."""

    when: Mapping[str, Any]
    because: str


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """What one trial field is in some combinations.

    value: as `Trial` takes it; None where it is unusable (`sound` False). plain: as
    `Trial.resolved()` gives it, which conditions read. faults: why an unusable cell is so, to be
    reported only where a combination with it is kept; empty where that is reported already.
    """

    value: Any
    plain: Any
    keys: Keys
    sound: bool = True
    faults: tuple[Fault, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Factor:
    """One trial field over the whole grid. axes: the positions of the axes it depends on."""

    name: str
    axes: tuple[int, ...]
    cells: Mapping[Indices, Cell]

    pick: Callable[[Indices], Indices] = field(init=False, repr=False)
    """Takes this factor's part out of a combination."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "pick", picker(self.axes))

    def of(self, combination: Indices) -> Cell:
        return self.cells[self.pick(combination)]


@dataclass(frozen=True, slots=True)
class Grid:
    """kept, skipped: combinations in grid order, the last axis varying fastest; those skipped
    with the position of the first rule that leaves them out."""

    axes: tuple[Axis, ...] = ()
    factors: Mapping[str, Factor] = field(default_factory=dict)
    kept: tuple[Indices, ...] = ()
    skipped: tuple[tuple[Indices, int], ...] = ()

    def distinct(self, fields: Sequence[str]) -> Iterator[tuple[Cell, ...]]:
        """The cells of these fields that occur together in some kept combination, each once."""
        chosen = [self.factors[name] for name in fields]
        axes = tuple(sorted({axis for factor in chosen for axis in factor.axes}))
        seen = dict.fromkeys(map(picker(axes), self.kept))
        at = {axis: position for position, axis in enumerate(axes)}
        pickers = [picker([at[axis] for axis in factor.axes]) for factor in chosen]
        for part in seen:
            yield tuple(f.cells[pick(part)] for f, pick in zip(chosen, pickers, strict=True))


def picker(axes: Sequence[int]) -> Callable[[Indices], Indices]:
    """A function that takes these positions out of a combination, always as a tuple."""
    if not axes:
        return lambda _: ()
    if len(axes) == 1:
        only = axes[0]
        return lambda combination: (combination[only],)
    return itemgetter(*axes)


def enumerate_grid(
    axes: tuple[Axis, ...], factors: Mapping[str, Factor], rules: Sequence[SkipRule]
) -> tuple[Grid, tuple[int, ...]]:
    """The grid with its combinations kept and skipped, and how many each rule matches."""
    tests = [_compiled(rule, factors) for rule in rules]
    counts = [0] * len(rules)
    kept: list[Indices] = []
    skipped: list[tuple[Indices, int]] = []
    for combination in product(*(range(len(axis.values)) for axis in axes)):
        first = -1
        for number, test in enumerate(tests):
            if all(pick(combination) in holds for pick, holds in test):
                counts[number] += 1
                first = number if first < 0 else first
        if first < 0:
            kept.append(combination)
        else:
            skipped.append((combination, first))
    return Grid(axes, factors, tuple(kept), tuple(skipped)), tuple(counts)


def _compiled(
    rule: SkipRule, factors: Mapping[str, Factor]
) -> list[tuple[Callable[[Indices], Indices], frozenset[Indices]]]:
    """For each field of the rule, where it holds: decided once for each of its cells."""
    test = []
    for name, wanted in rule.when.items():
        factor = factors[name.partition(".")[0]]
        holds = frozenset(
            key for key, cell in factor.cells.items() if field_matches(name, wanted, cell.plain)
        )
        test.append((factor.pick, holds))
    return test
