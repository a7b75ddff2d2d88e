"""Plans a search: what each study searches, which trials its points stand for, and what is trained
again on fresh seeds.

Nothing here depends on Optuna.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, product
from math import floor, prod
from pathlib import Path
from random import Random
from typing import Any

from pydantic import ValidationError

from harness.components.shared.splitting import validation_size
from harness.core.errors import HarnessError, InputError
from harness.core.seeding import stream_seed
from harness.core.text import format_value
from harness.experiment.batches import single_example_problem
from harness.experiment.experiment import (
    CategoricalDimension,
    Dimension,
    Experiment,
    Method,
    Search,
)
from harness.experiment.grid import Axis, SkipRule, matches
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.ranges import at_step, count_steps
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    Choice,
    Trial,
    is_absent,
    make_config_id,
    make_trial_id,
    value_label,
)
from harness.store import names
from harness.tuning.sub_grids import SubGridPoints

ALL = "all"
"""The label of the only study of a search without `per`."""

SEEDS = 1_000_000
"""Fresh seeds are smaller than this, so that people can read them out."""

MAX_LISTED = 10_000
"""The largest space whose points are listed to see which ones can be trained."""

EARLIER_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "tpe": {"n_startup_trials": 10, "multivariate": False, "group": False},
    "cmaes": {"n_startup_trials": 1, "sigma0": None},
}
"""The options that version 1.0 gave to samplers where the file gave none. Keys have them."""

Point = Mapping[str, Any]
"""A value for each searched field that applies, as `Trial` takes it."""


class InvalidPoint(HarnessError):
    """Raised for a point without a trial: a skip rule excludes it, or its options conflict."""


@dataclass(frozen=True)
class StudyPlan:
    """The plan of one study.

    label: the study's values of the fields in `per`, as text.
    base: the trial whose fields the points replace.
    dimensions: the dimensions of the space that apply to at least one of its trials.
    sub_grids: which points stand in the grid, where that is a list; else None.
    """

    label: str
    base: PlannedTrial
    dimensions: tuple[Dimension, ...]
    search: Search
    skip: tuple[SkipRule, ...]
    data_root: Path
    sub_grids: SubGridPoints | None = None

    @cached_property
    def known_points(self) -> tuple[Point, ...]:
        """The points to try first: those that the file names, else the base trial's own values.

        A field that a named point leaves out keeps the base trial's value, so that the point is the
        trial that the tuned one is compared with. Where that value lies outside the space, the
        sampler draws the field.
        """
        fields = {dimension.field for dimension in self.dimensions}
        named = [known for known in self.search.known if matches(known.where, self.base.trial)]
        if named:
            points = [{f: v for f, v in known.point.items() if f in fields} for known in named]
            return tuple(self._completed(point) for point in points if point)
        own = self._values_of(self.base.trial)
        inside = all(d.contains(own[d.field]) for d in self.dimensions if d.field in own)
        return (own,) if own and inside and not self.search.only_searched else ()

    def _completed(self, point: Point) -> Point:
        """Returns a point with the base trial's values for the fields that it leaves out."""
        try:
            trial = self.trial(point)
        except InvalidPoint:
            return point  # The study rejects it when it asks for it, and says why.
        own, placeholders = self._values_of(trial), self.search.only_searched
        given = [d for d in self.applying(trial) if d.field.partition(".")[0] not in placeholders]
        return {d.field: own[d.field] for d in given if d.contains(own[d.field])} | dict(point)

    def _values_of(self, trial: Trial) -> Point:
        return {d.field: field_value(trial, d.field) for d in self.applying(trial)}

    @cached_property
    def default(self) -> Trial | None:
        """The trial to compare the tuned one with: that of the first known point that the rules
        allow, else the base. None where the base lacks a value or the rules leave it out."""
        missing = set(self.search.only_searched)
        for point in (*self.known_points, {}):
            with suppress(InvalidPoint):
                if missing <= set(point):
                    return self.trial(point)
        return None

    @cached_property
    def is_listable(self) -> bool:
        """Whether the space is finite, and small enough to list its points."""
        sizes = [dimension.size for dimension in self.dimensions]
        return None not in sizes and prod(size or 0 for size in sizes) <= MAX_LISTED

    @cached_property
    def allowed_points(self) -> list[Point]:
        """Every point of a finite space that has a trial which no rule leaves out, in an order
        drawn from the search's seed. Points that differ only in fields that do not apply are one.
        """
        fields = [dimension.field for dimension in self.dimensions]
        points: dict[str, Point] = {}
        for values in product(*map(grid_values, self.dimensions)):
            everything = dict(zip(fields, values, strict=True))
            fields_alone = {f: value for f, value in everything.items() if "." not in f}
            chosen = with_fields(self.base.trial, fields_alone)
            point = {d.field: everything[d.field] for d in self.applying(chosen)}
            with suppress(InvalidPoint):
                self.trial(point)
                points.setdefault(repr(point), point)
        shuffled = list(points.values())
        Random(stream_seed(self.search.seed, "grid")).shuffle(shuffled)  # noqa: S311
        return shuffled

    @cached_property
    def rules(self) -> str:
        """The rules that leave points out, as text."""
        return json.dumps([rule.when for rule in self.skip], sort_keys=True, default=repr)

    @cached_property
    def key(self) -> str:
        """A hash of everything that decides what the study proposes and how it judges points.

        The budget and the known points are left out, so that both may grow.
        """
        search = self.search
        content = [
            self.base.trial.identity(),
            str(self.base.fingerprint),
            [(d.field, str(d)) for d in self.dimensions],
            [(o.metric, o.direction) for o in search.objectives],
            [str(search.sampler), str(search.pruner), search.seed, list(search.seeds)],
        ]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]

    @cached_property
    def earlier(self) -> StudyPlan | None:
        """The plan as version 1.0 made it, which set options that are left to Optuna now; None
        where that is the same plan."""
        sampler = self.search.sampler
        if sampler.name not in EARLIER_OPTIONS or "constant_liar" in sampler.options:
            return None
        options = {**EARLIER_OPTIONS[sampler.name], **sampler.options}
        plan = replace(self, search=replace(self.search, sampler=Method(sampler.name, options)))
        return None if plan.key == self.key else plan

    def applying(self, trial: Trial) -> Iterator[Dimension]:
        """Yields the dimensions that apply to a trial with these components."""
        return (d for d in self.dimensions if applies(d.field, trial))

    def trial(self, point: Point) -> Trial:
        """Returns the base trial with a point's values. Raises InvalidPoint where there is none."""
        try:
            trial = with_fields(self.base.trial, point)
        except (ValidationError, InputError) as error:
            raise InvalidPoint(str(error).replace("\n", " ")) from None
        for rule in self.skip:
            if matches(rule.when, trial):
                raise InvalidPoint(f"skipped: {rule.because}")
        if self.sub_grids is not None and not self.sub_grids.hold(trial):
            raise InvalidPoint("no grid of the list has these values together")
        if any(name.partition(".")[0] in ("model", "batch_size") for name in point):
            self._check_batches(trial)
        return trial

    def _check_batches(self, trial: Trial) -> None:
        """Raises InvalidPoint for a batch of one example on which the model cannot train."""
        if is_absent("dataset", trial.dataset) or is_absent("model", trial.model):
            return
        info = trial.dataset.component.info(trial.dataset.options, self.data_root)
        if info.examples is not None:
            n = info.examples - validation_size(info.examples, trial.val_fraction)
            problem = single_example_problem(trial.model, info, n, trial.batch_size)
            if problem is not None:
                raise InvalidPoint(problem.what)

    def planned_trials(self, trial: Trial, seeds: Sequence[int], name: str) -> list[PlannedTrial]:
        """Plans a trial on each of the seeds. name: for people; the seed is added to it."""
        fingerprint = self.base.fingerprint
        if trial.model != self.base.trial.model:  # The data set is the base's.
            weights = trial.model.component.fingerprint(trial.model.options)
            fingerprint = replace(fingerprint, weights=weights)
        identity = trial.identity()
        config_id = make_config_id(identity, fingerprint)
        planned = []
        for seed in seeds:
            trial_id = make_trial_id({**identity, "seed": seed}, fingerprint)
            title = name if len(seeds) == 1 else f"{name} seed={seed}"
            seeded = replace(trial, seed=seed)
            planned.append(PlannedTrial(seeded, trial_id, config_id, title, {}, fingerprint))
        return planned

    def describe(self, trial: Trial) -> str:
        """Returns a trial's searched fields for people: "lr=0.003162 cosine"."""
        return " ".join(_described(field, value) for field, value in self._values_of(trial).items())


def plan_studies(plan: Plan, search: Search, data_root: Path) -> tuple[StudyPlan, ...]:
    """Plans one study for each combination of the fields in `per`, in the plan's order.

    Raises InputError where a study's grid is smaller than its budget.
    """
    axes = {axis.field for axis in plan.experiment.axes}
    per = [name for name in search.per if name in axes]
    members: dict[tuple[tuple[str, str], ...], list[PlannedTrial]] = {}
    for planned in plan.trials:
        members.setdefault(tuple(_per_values(planned, per)), []).append(planned)
    studies = []
    for where, (base, *others) in members.items():
        dimensions, points = _applying_dimensions(base.trial, search.space), None
        if search.sub_grid_axes:
            points = SubGridPoints(search, [planned.trial for planned in (base, *others)])
            dimensions = tuple(filter(None, map(points.narrowed, dimensions)))
        label = " ".join(v if f in COMPONENT_FIELDS else f"{f}={v}" for f, v in where) or ALL
        skip = plan.experiment.skip
        studies.append(StudyPlan(label, base, dimensions, search, skip, data_root, points))
    if search.sampler.name == "grid" and search.trials is not None:
        for study in studies:
            size = prod(dimension.size or 0 for dimension in study.dimensions)
            if search.trials > size:
                raise InputError(
                    f"search: the grid of study {study.label!r} has {format_value(size)} points, "
                    f"fewer than its {search.trials} trials: set search.trials={size}, or widen "
                    "the space"
                )
    return tuple(studies)


def _per_values(planned: PlannedTrial, per: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yields the text of a trial's value of each field in `per`: of its own where its sub-grid does
    not name the field. An option that is not given has none."""
    for name in per:
        if name in planned.axes:
            yield name, planned.axes[name]
        elif "." not in name:
            yield name, value_label(getattr(planned.trial, name))


def search_plan(experiment: Experiment, studies: Sequence[StudyPlan], search: Search) -> Plan:
    """Returns the plan that the parent runs describe, and that the runs' params follow.

    It has the base trial of each study, and every searched field as an axis.
    """
    axes = [axis for axis in experiment.axes if axis.field in search.per]
    axes += [Axis(dimension.field, limits(dimension)) for dimension in search.space]
    described = replace(experiment, axes=tuple(axes))
    return Plan(described, tuple(study.base for study in studies), ())


def plan_retraining(
    experiment: Experiment, search: Search, winners: Sequence[tuple[StudyPlan, Trial | None]]
) -> tuple[Plan, Mapping[str, Mapping[str, str]]]:
    """Plans each study's tuned trial and its default on the same fresh seeds, as pairs.

    A default that is the tuned trial itself is trained once. winners: each study with its tuned
    trial; None where no point was completed. Returns the plan, and the tags of each trial's run
    that say which part it has in the search (see `names.TAG_ROLE`), by trial id.
    """
    seeds = fresh_seeds(search)
    trials: dict[str, PlannedTrial] = {}
    search_tags: dict[str, Mapping[str, str]] = {}
    for study, tuned in winners:
        for role, trial in ((names.TUNED, tuned), (names.DEFAULT, study.default)):
            if trial is None:
                continue
            name = f"{study.label} {role} {study.describe(trial)}".strip()
            for planned in study.planned_trials(trial, seeds, name):
                part = names.BOTH if planned.trial_id in trials else role
                search_tags[planned.trial_id] = {"study": study.label, "role": part}
                named = replace(planned, name=f"{name} seed={planned.trial.seed}")
                trials.setdefault(planned.trial_id, named)
    axes = [axis for axis in experiment.axes if axis.field in search.per]
    axes += [Axis(dimension.field, ()) for dimension in search.space]
    axes.append(Axis("seed", tuple(seeds)))
    plan = Plan(replace(experiment, axes=tuple(axes)), tuple(trials.values()), ())
    return plan, search_tags


def fresh_seeds(search: Search) -> list[int]:
    """Draws `retrain_seeds` different seeds that no point was judged on, from the search's seed."""
    seeds: dict[int, None] = {}
    numbers = count()
    while len(seeds) < search.retrain_seeds:
        seed = stream_seed(search.seed, "retrain", next(numbers)) % SEEDS
        if seed not in search.seeds:
            seeds[seed] = None
    return list(seeds)


def with_fields(trial: Trial, point: Point) -> Trial:
    """Returns a trial with some fields, and some options of components, replaced.

    All options of a component are replaced at once, since one may exclude another. Raises
    ValidationError where a component does not accept its options.
    """
    options: dict[str, dict[str, Any]] = {}
    for field, value in point.items():
        root, _, option = field.partition(".")
        if option:
            options.setdefault(root, {})[option] = value
        else:
            trial = replace(trial, **{root: value})
    changes: dict[str, Any] = {}
    for root, values in options.items():
        choice: Choice[Any] = getattr(trial, root)
        validated = type(choice.options).model_validate({**choice.options.model_dump(), **values})
        changes[root] = Choice(choice.component, validated)
    return replace(trial, **changes)


def field_value(trial: Trial, field: str) -> Any:
    """Returns a trial's value of a field, or of an option of its component."""
    root, _, option = field.partition(".")
    value = getattr(trial, root)
    return getattr(value.options, option) if option else value


def grid_values(dimension: Dimension) -> list[Any]:
    """Returns every value of a list, or of a range with steps."""
    if isinstance(dimension, CategoricalDimension):
        return list(dimension.values)
    low, high, step = dimension.low, dimension.high, dimension.step or 1
    if dimension.integer:
        return list(range(int(low), int(high) + 1, int(step)))
    return [at_step(low, step, n) for n in range(floor(count_steps(low, high, step)) + 1)]


def limits(dimension: Dimension) -> tuple[Any, ...]:
    """Returns every value of a list, or both ends of a range."""
    if isinstance(dimension, CategoricalDimension):
        return dimension.values
    return dimension.low, dimension.high


def applies(field: str, trial: Trial) -> bool:
    """Whether a trial has a field; an option may be of a component that it does not use."""
    root, _, option = field.partition(".")
    return not option or option in type(getattr(trial, root).options).model_fields


def _applying_dimensions(base: Trial, space: Sequence[Dimension]) -> tuple[Dimension, ...]:
    """Returns the dimensions that apply to the base's components, or to a component searched."""
    searched = {
        d.field: d
        for d in space
        if d.field in COMPONENT_FIELDS and isinstance(d, CategoricalDimension)
    }
    dimensions = []
    for dimension in space:
        root = dimension.field.partition(".")[0]
        choices = searched[root].values if root in searched else ()
        trials = [with_fields(base, {root: choice}) for choice in choices] or [base]
        if any(applies(dimension.field, trial) for trial in trials):
            dimensions.append(dimension)
    return tuple(dimensions)


def _described(field: str, value: Any) -> str:
    if isinstance(value, Choice):
        return value.label
    return f"{field}={value_label(value)}"
