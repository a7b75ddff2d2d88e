"""What a `search:` block asks for, once validated: studies, their space and their budget.

The methods that propose and prune are declared here with their options, so that a file is checked
and an editor helped without the library that implements them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from pydantic import Field

from harness.components.base import Options
from harness.core.text import format_value
from harness.experiment.trial import Choice

PARAMETERS: Final = "parameters"
"""The objective that counts a model's weights."""
TRAIN_SECONDS: Final = "time/train_s"
COSTS: Final = (TRAIN_SECONDS, PARAMETERS)
"""Objectives beside a metric that every trial has; less is better."""


@dataclass(frozen=True, slots=True)
class Range:
    """A field searched between two bounds, both included. whole: integers only."""

    field: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    whole: bool = False

    def holds(self, value: Any) -> bool:
        """Whether a value is one that the range can give."""
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if not number or not self.low <= value <= self.high:
            return False
        if self.whole and not isinstance(value, int):
            return False
        return self.step is None or on_step(value - self.low, self.step)

    def __str__(self) -> str:
        log = ", log" if self.log else ""
        step = f", step {format_value(self.step)}" if self.step is not None else ""
        return f"{format_value(self.low)} … {format_value(self.high)}{log}{step}"


@dataclass(frozen=True, slots=True)
class Among:
    """A field searched over a list. values: as `Trial` takes them, a `Choice` for a component."""

    field: str
    values: tuple[Any, ...]

    def holds(self, value: Any) -> bool:
        return value in self.values

    def labels(self) -> tuple[str, ...]:
        """A text for each value, all of them different."""
        return tuple(label(value) for value in self.values)

    def __str__(self) -> str:
        return f"[{', '.join(self.labels())}]"


Dimension = Range | Among


@dataclass(frozen=True, slots=True)
class Known:
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
    known: tuple[Known, ...]
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


def label(value: Any) -> str:
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


class Nothing(Options):
    """No options."""


class TPE(Options):
    n_startup_trials: int = Field(10, ge=0, description="random points before the model is used")
    multivariate: bool = Field(False, description="model the fields jointly")
    group: bool = Field(False, description="with `multivariate`: a model for each conditional part")


class QMC(Options):
    sequence: Literal["halton", "sobol"] = Field("halton", description="scrambled, from the seed")


class GP(Options):
    n_startup_trials: int = Field(10, ge=1, description="random points before the model is used")
    deterministic_objective: bool = Field(False, description="take the objective for noiseless")


class CMAES(Options):
    n_startup_trials: int = Field(1, ge=1, description="random points before the model is used")
    sigma0: float | None = Field(None, gt=0, description="the first step; by default a sixth")


class NSGA2(Options):
    population_size: int = Field(50, ge=2, description="points of a generation")


class Median(Options):
    n_startup_trials: int = Field(5, ge=0, description="points that are never pruned")
    n_warmup_steps: int = Field(0, ge=0, description="epochs in which nothing is pruned")


class ASHA(Options):
    min_resource: int = Field(1, ge=1, description="epochs before the first rung")
    reduction_factor: int = Field(4, ge=2, description="one in so many goes on")
    min_early_stopping_rate: int = Field(0, ge=0, description="rungs left out at the beginning")


class Hyperband(Options):
    min_resource: int = Field(1, ge=1, description="epochs of the most hurried bracket")
    reduction_factor: int = Field(3, ge=2, description="one in so many goes on")


class Wilcoxon(Options):
    p_threshold: float = Field(0.1, gt=0, lt=1, description="prune below it")
    n_startup_steps: int = Field(2, ge=0, description="seeds before anything is pruned")


SAMPLERS: Final[Mapping[str, type[Options]]] = {
    "tpe": TPE,
    "random": Nothing,
    "qmc": QMC,
    "gp": GP,
    "cmaes": CMAES,
    "nsga2": NSGA2,
    "grid": Nothing,
}
PRUNERS: Final[Mapping[str, type[Options]]] = {
    "none": Nothing,
    "median": Median,
    "asha": ASHA,
    "hyperband": Hyperband,
    "wilcoxon": Wilcoxon,
}
PAIRS: Final = 4
"""Pairs of seeds below which Wilcoxon's test cannot come out under 0.1: 2⁻⁴ is the first."""
