"""An experiment file after validation: what the plan, the commands and the report read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.components.base import Metric
from harness.core.metrics import Goal
from harness.experiment.search.settings import Search
from harness.experiment.trial import Trial

if TYPE_CHECKING:
    from harness.experiment.grid import Grid

Artifacts = Literal["best", "all", "none"]


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


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial of the plan. name: for people, from what varies ("mlp adam lr=0.01 cosine seed=0").

    axes: the value of each grid axis as its canonical text. fingerprint: checksum of the data set
    and of any weights file, a part of both ids.
    """

    trial: Trial
    trial_id: str
    config_id: str
    name: str
    axes: Mapping[str, str]
    fingerprint: str = ""


@dataclass(frozen=True, slots=True)
class SkippedTrial:
    """A combination left out, and why."""

    axes: Mapping[str, str]
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All that an experiment asks for, in grid order; every trial id once."""

    experiment: Experiment
    trials: tuple[PlannedTrial, ...]
    skipped: tuple[SkippedTrial, ...]
