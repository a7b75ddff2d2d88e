"""A validated experiment, as the plan, the commands and the reports read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any, Final, Literal

from harness.components.code.snapshot import NO_CODE, CodeSnapshot
from harness.components.code.source import UserCode
from harness.core.metrics import TRAIN_SECONDS, Direction, Goal
from harness.core.text import format_value
from harness.experiment.grid import Axis, Grid, SkipRule
from harness.experiment.ranges import count_steps, is_on_step
from harness.experiment.trial import value_label

Artifacts = Literal["best", "all", "none"]

PARAMETERS: Final = "parameters"
"""The objective that counts a model's parameters."""
PYTHON: Final = "harness.Experiment"
"""Stands for the file's name where Python code gives the values."""
COSTS: Final = (TRAIN_SECONDS, PARAMETERS)
"""Objectives that every trial has and that are minimised."""


@dataclass(frozen=True, slots=True)
class NumericDimension:
    """A field searched between two bounds, both included. integer: only integers are searched."""

    field: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    @property
    def size(self) -> int | None:
        """The number of values; None where the range is continuous."""
        if self.log or not (self.integer or self.step is not None):
            return None
        return floor(count_steps(self.low, self.high, self.step or 1)) + 1

    def contains(self, value: Any) -> bool:
        """Whether the sampler may propose a value."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            return False
        if self.integer and not isinstance(value, int):
            return False
        return self.step is None or is_on_step(self.low, value, self.step)

    def __str__(self) -> str:
        log = ", log" if self.log else ""
        step = f", step {format_value(self.step)}" if self.step is not None else ""
        return f"{format_value(self.low)} … {format_value(self.high)}{log}{step}"


@dataclass(frozen=True, slots=True)
class CategoricalDimension:
    """A field searched over a list of values, as `Trial` takes them: a `Choice` for a component."""

    field: str
    values: tuple[Any, ...]

    @property
    def size(self) -> int:
        return len(self.values)

    def contains(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"[{', '.join(map(value_label, self.values))}]"


Dimension = NumericDimension | CategoricalDimension


@dataclass(frozen=True, slots=True)
class KnownPoint:
    """A point to try before the sampler proposes any. where: the studies that it belongs to."""

    where: Mapping[str, Any]
    point: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Objective:
    """What a search optimises. metric: "val/accuracy", "time/train_s" or "parameters"."""

    metric: str
    direction: Direction


@dataclass(frozen=True, slots=True)
class Method:
    """A sampler or a pruner with its options. Options that are absent are left to Optuna."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={format_value(value)}" for key, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A validated `search:` block.

    per: the fields of which each value has a study of its own.
    space: components first, then their options, then all other fields. The axes of the grid that
        are neither in `per` nor the seed are dimensions too.
    sub_grid_axes: the axes of the grid that are searched, where the grid is a list: a point must
        stand in one of its sub-grids.
    only_searched: the fields that must be given and that only the space gives. The trials of the
        grid hold one of its values in their place.
    trials, minutes: the budget of each study; at most one of them is None, for no limit.
    patience: how many points without a better one end a study; None for no such limit.
    seeds: those that each point is trained on; its value is their mean.
    objectives: the experiment's metric first.
    """

    per: tuple[str, ...]
    space: tuple[Dimension, ...]
    sub_grid_axes: tuple[str, ...] = ()
    only_searched: tuple[str, ...] = ()
    known: tuple[KnownPoint, ...]
    trials: int | None
    minutes: float | None
    patience: int | None
    seeds: tuple[int, ...]
    objectives: tuple[Objective, ...]
    sampler: Method
    pruner: Method
    seed: int
    retrain_seeds: int
    storage: str

    def varied(self, condition: Mapping[str, Any]) -> list[str]:
        """Returns the fields of a condition in which the points of a study may differ."""
        names = {dimension.field for dimension in self.space}
        roots = {name.partition(".")[0] for name in names}
        return [
            name
            for name, wanted in condition.items()
            if name in names
            or name.partition(".")[0] in names
            or (name in roots and any(isinstance(w, Mapping) for w in (wanted, *_items(wanted))))
        ]


def _items(wanted: Any) -> Sequence[Any]:
    return wanted if isinstance(wanted, (list, tuple)) else ()


@dataclass(frozen=True, slots=True)
class Expectation:
    """A published figure, which is reproduced if the mean over seeds lies within the tolerance.

    metric: "test/accuracy" is that of the last epoch, "best/test/accuracy" that of the selected
        epoch.
    where: a condition on the trials that the figure is about.
    """

    metric: str
    value: float
    tolerance: float
    source: str
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A validated experiment.

    metric: what trials are selected on ("val/accuracy"), by default that of the data set's task.
    search: the `search:` block; None if there is none.
    sha256: the checksum of the file. overrides: what the command line changed of it.
    code: the user's code that the file names; None if it was not read from a file.
    source: the source of that code, as it was run.
    written: as YAML, of an experiment that Python code gives; "" if it was read from a file.
    grid: each field's values and its combinations, from which the plan is made.
    """

    name: str
    path: Path
    description: str
    axes: tuple[Axis, ...]
    skip: tuple[SkipRule, ...]
    metric: str
    direction: Direction
    target: float | None
    search: Search | None
    expect: tuple[Expectation, ...]
    artifacts: Artifacts
    sha256: str = ""
    overrides: tuple[str, ...] = ()
    code: UserCode | None = None
    source: CodeSnapshot = NO_CODE
    written: str = ""
    grid: Grid = field(default_factory=Grid, repr=False, compare=False)

    @property
    def where(self) -> str:
        """The file, as messages name it; "" if the experiment was read from none."""
        return "" if self.path.name == PYTHON else str(self.path)

    @property
    def goal(self) -> Goal:
        """The metric that trials are selected on, with its direction and target."""
        return Goal(self.metric, self.direction, self.target)
