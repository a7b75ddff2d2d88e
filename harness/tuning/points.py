"""From a plan to its studies, and from a point of the space to a trial. Knows nothing of Optuna."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.core.errors import HarnessError, InputError
from harness.core.text import format_number, format_value
from harness.experiment.conditions import matches
from harness.experiment.experiment import (
    CategoricalDimension,
    Dimension,
    KnownPoint,
    NumericDimension,
    Search,
    value_label,
)
from harness.experiment.grid import SkipRule
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import COMPONENT_FIELDS, Choice, Trial, digest

ALL = "all"
"""Label of the one study of a search without `per`."""

Point = Mapping[str, Any]
"""A value for each field that is searched and applies, as `Trial` takes it."""


class InvalidPoint(HarnessError):
    """A point that is no trial: a skip rule leaves it out, or its options do not go together."""


@dataclass(frozen=True)
class StudyPlan:
    """One study. where: its value of each field of `per`, as text. base: what its trials share.
    dimensions: those of the space that apply to some of its trials."""

    label: str
    where: Mapping[str, str]
    base: PlannedTrial
    dimensions: tuple[Dimension, ...]
    search: Search
    skip: tuple[SkipRule, ...]
    data_root: Path

    @cached_property
    def known(self) -> tuple[Point, ...]:
        """Points tried first: those that the file names, else what its trials say.

        What a named point leaves open is as the file says outside the search, so that it is the
        trial that the winner is compared with; a value outside the space is left to the sampler.
        """
        fields = {dimension.field for dimension in self.dimensions}
        named = [known for known in self.search.known if matches(known.where, self.base.trial)]
        if named:
            points = [_within(known, fields) for known in named]
            return tuple(self._completed(point) for point in points if point)
        own = {d.field: field_of(self.base.trial, d.field) for d in self.applying(self.base.trial)}
        inside = all(d.contains(own[d.field]) for d in self.dimensions if d.field in own)
        return (own,) if own and inside else ()

    def _completed(self, point: Point) -> Point:
        """A point with the base's own values where it says nothing."""
        try:
            trial = self.trial(point)
        except InvalidPoint:
            return point  # The study will meet it, and say why.
        own = ((d, field_of(trial, d.field)) for d in self.applying(trial))
        return {d.field: value for d, value in own if d.contains(value)} | dict(point)

    @cached_property
    def default(self) -> Trial:
        """What the tuned trial is compared with: the first known point, else the file's own."""
        return self.trial(self.known[0]) if self.known else self.base.trial

    @cached_property
    def key(self) -> str:
        """Sets this study apart from one that would propose or judge otherwise; its budget and
        its known points have no part in it, so that they may grow."""
        search = self.search
        content = [
            self.base.trial.identity(),
            self.base.fingerprint,
            [(d.field, str(d)) for d in self.dimensions],
            [(o.metric, o.direction) for o in search.objectives],
            [str(search.sampler), str(search.pruner), search.seed, list(search.seeds)],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    def applying(self, trial: Trial) -> Iterator[Dimension]:
        """Dimensions that a trial with these components has."""
        return (d for d in self.dimensions if _applies(d.field, trial))

    def trial(self, point: Point) -> Trial:
        """The base with a point's values. Raises InvalidPoint where they make no trial."""
        trial = self.base.trial
        try:
            for field, value in point.items():
                trial = with_field(trial, field, value)
        except (ValidationError, InputError) as error:
            raise InvalidPoint(str(error).replace("\n", " ")) from None
        for rule in self.skip:
            if matches(rule.when, trial):
                raise InvalidPoint(f"skipped: {rule.because}")
        return trial

    def planned(self, trial: Trial, seeds: Sequence[int], name: str) -> list[PlannedTrial]:
        """A trial on each of some seeds, ready to be run."""
        fingerprint = self._fingerprint(trial)
        identity = trial.identity()
        config = {field: value for field, value in identity.items() if field != "seed"}
        config_id = digest(config, fingerprint)
        made = []
        for seed in seeds:
            trial_id = digest({**config, "seed": seed}, fingerprint)
            told = name if len(seeds) == 1 else f"{name} seed={seed}"
            seeded = replace(trial, seed=seed)
            made.append(PlannedTrial(seeded, trial_id, config_id, told, {}, fingerprint))
        return made

    def described(self, trial: Trial) -> str:
        """The searched fields of a trial for people: "lr=0.003162 cosine"."""
        found = ((d.field, field_of(trial, d.field)) for d in self.applying(trial))
        return " ".join(_told(field, value) for field, value in found)

    def _fingerprint(self, trial: Trial) -> str:
        if trial.model == self.base.trial.model:
            return self.base.fingerprint
        data = trial.dataset.component.fingerprint(trial.dataset.options, self.data_root)
        weights = trial.model.component.fingerprint(trial.model.options)
        return "+".join(part for part in (data, weights) if part)


def plan_studies(plan: Plan, search: Search, data_root: Path) -> tuple[StudyPlan, ...]:
    """The studies of a plan, in its order: one for each combination of `per` that it keeps.

    Raises InputError where a study's grid is smaller than its budget.
    """
    bases: dict[tuple[tuple[str, str], ...], PlannedTrial] = {}
    for planned in plan.trials:
        where = tuple((name, planned.axes[name]) for name in search.per if name in planned.axes)
        bases.setdefault(where, planned)
    found = tuple(
        StudyPlan(
            label=" ".join(v if f in COMPONENT_FIELDS else f"{f}={v}" for f, v in where) or ALL,
            where=dict(where),
            base=base,
            dimensions=_possible(base.trial, search.space),
            search=search,
            skip=plan.experiment.skip,
            data_root=data_root,
        )
        for where, base in bases.items()
    )
    for study in found:
        _require_room(study)
    return found


def with_field(trial: Trial, field: str, value: Any) -> Trial:
    """A trial with one field, or one option of a component, replaced. Raises ValidationError."""
    root, _, option = field.partition(".")
    if not option:
        return replace(trial, **{root: value})
    choice: Choice[Any] = getattr(trial, root)
    options = {**choice.options.model_dump(), option: value}
    validated = type(choice.options).model_validate(options)
    changes: dict[str, Any] = {root: Choice(choice.component, validated)}
    return replace(trial, **changes)


def field_of(trial: Trial, field: str) -> Any:
    """A trial's value of a field, or of an option of its component."""
    root, _, option = field.partition(".")
    value = getattr(trial, root)
    return getattr(value.options, option) if option else value


def _applies(field: str, trial: Trial) -> bool:
    root, _, option = field.partition(".")
    return not option or option in type(getattr(trial, root).options).model_fields


def _possible(base: Trial, space: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Dimensions that some point has: options of the base's components and of those searched."""
    searched = {
        d.field: d
        for d in space
        if d.field in COMPONENT_FIELDS and isinstance(d, CategoricalDimension)
    }
    found = []
    for dimension in space:
        root = dimension.field.partition(".")[0]
        choices = searched[root].values if root in searched else ()
        trials = [with_field(base, root, choice) for choice in choices] or [base]
        if any(_applies(dimension.field, trial) for trial in trials):
            found.append(dimension)
    return tuple(found)


def _within(known: KnownPoint, fields: set[str]) -> Point:
    return {field: value for field, value in known.point.items() if field in fields}


def _told(field: str, value: Any) -> str:
    if isinstance(value, Choice):
        return value.label
    if isinstance(value, float):
        return f"{field}={format_number(float(f'{value:.4g}'))}"
    return f"{field}={value_label(value)}"


def _require_room(study: StudyPlan) -> None:
    search = study.search
    if search.sampler.name != "grid" or search.trials is None:
        return
    size = prod(len(points_of(dimension)) for dimension in study.dimensions)
    if search.trials > size:
        raise InputError(
            f"search: the grid of study {study.label!r} has {format_value(size)} points, fewer "
            f"than its {search.trials} trials: set search.trials={size}, or widen the space"
        )


def points_of(dimension: Dimension) -> list[Any]:
    """Every value of a list or of a range with steps."""
    if isinstance(dimension, CategoricalDimension):
        return list(dimension.values)
    return [stepped(dimension, n) for n in range(steps_of(dimension) + 1)]


def steps_of(dimension: NumericDimension) -> int:
    """Steps between the bounds of a range that has steps."""
    return round((dimension.high - dimension.low) / (dimension.step or 1))


def stepped(dimension: NumericDimension, n: int) -> float:
    """The n-th value of a range that has steps."""
    value = dimension.low + n * (dimension.step or 1)
    return int(value) if dimension.integer else float(value)
