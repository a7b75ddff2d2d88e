"""An experiment file after validation: what the plan, the commands and the report read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from harness.components.base import Metric
from harness.core.metrics import Goal
from harness.core.text import format_value
from harness.experiment.grid import Axis, Grid, SkipRule
from harness.experiment.trial import Choice

Artifacts = Literal["best", "all", "none"]

PARAMETERS: Final = "parameters"
"""The objective that counts a model's weights."""
TRAIN_SECONDS: Final = "time/train_s"
COSTS: Final = (TRAIN_SECONDS, PARAMETERS)
"""Objectives beside a metric that every trial has; less is better."""


@dataclass(frozen=True, slots=True)
class NumericDimension:
    """A field searched between two bounds, both included. integer: integers only."""

    field: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    integer: bool = False

    def contains(self, value: Any) -> bool:
        """Whether a value is one that the range can give."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            return False
        if self.integer and not isinstance(value, int):
            return False
        return self.step is None or on_step(value - self.low, self.step)

    def __str__(self) -> str:
        log = ", log" if self.log else ""
        step = f", step {format_value(self.step)}" if self.step is not None else ""
        return f"{format_value(self.low)} … {format_value(self.high)}{log}{step}"


@dataclass(frozen=True, slots=True)
class CategoricalDimension:
    """A field searched over a list. values: as `Trial` takes them, a `Choice` for a component."""

    field: str
    values: tuple[Any, ...]

    def contains(self, value: Any) -> bool:
        return value in self.values

    def labels(self) -> tuple[str, ...]:
        """A text for each value, all of them different."""
        return tuple(value_label(value) for value in self.values)

    def __str__(self) -> str:
        return f"[{', '.join(self.labels())}]"


Dimension = NumericDimension | CategoricalDimension


@dataclass(frozen=True, slots=True)
class KnownPoint:
    """A point tried before the sampler proposes any. where: the studies it belongs to."""

    where: Mapping[str, Any]
    point: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Objective:
    """metric: "val/accuracy", "time/train_s" or "parameters"."""

    metric: str
    direction: Literal["max", "min"]


@dataclass(frozen=True, slots=True)
class Method:
    """A sampler or pruner by name, with its options, all defaults filled in."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ", ".join(f"{key}={format_value(value)}" for key, value in self.options.items())
        return f"{self.name}({options})" if options else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """A validated `search:` block.

    space: in the order in which a point is put together: components, their options, the rest; the
    axes of the grid that are neither `per` nor `seed` are part of it.
    trials, minutes: the budget of each study, None for no such limit; never both None.
    seeds: those each point is trained on; its value is the mean.
    objectives: the experiment's metric first.
    patience: a study ends after so many points without a better one; None: never.
    """

    per: tuple[str, ...]
    space: tuple[Dimension, ...]
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


def value_label(value: Any) -> str:
    """One value of a list as text."""
    if isinstance(value, Choice):
        return value.label
    if isinstance(value, tuple) and any(isinstance(item, Choice) for item in value):
        return format_value([item.label for item in value])
    return format_value(value)


def on_step(distance: float, step: float) -> bool:
    """Whether a distance is a whole number of steps, but for rounding."""
    steps = distance / step
    return abs(steps - round(steps)) < 1e-8


@dataclass(frozen=True, slots=True)
class Expectation:
    """A published figure. metric: "test/accuracy" reads the last epoch's; "best/test/accuracy"
    the selected epoch's. It is reproduced where the mean over seeds lies within the tolerance."""

    metric: str
    value: float
    tolerance: float
    source: str
    where: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """A validated experiment. metric: what trials are selected on, resolved ("val/accuracy").

    search: the `search:` block; None where there is none.
    grid: what the plan is made from: each field's values, and the combinations that are kept;
    None only for an experiment that was not loaded from a file.
    """

    name: str
    path: Path
    description: str
    axes: tuple[Axis, ...]
    skip: tuple[SkipRule, ...]
    metric: str
    metric_component: Metric | None
    direction: Literal["max", "min"]
    target: float | None
    search: Search | None
    expect: tuple[Expectation, ...]
    artifacts: Artifacts
    grid: Grid | None = field(default=None, repr=False, compare=False)

    @property
    def goal(self) -> Goal:
        """What its trials are selected on."""
        return Goal(self.metric, self.direction, self.target)
