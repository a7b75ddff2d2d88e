"""Turns an experiment into its trials: each with its ids, its name and its place in the grid.

Ids, names and texts are assembled from parts that are made once for each distinct value, so that
planning ten thousand trials takes a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from harness.core import paths
from harness.core.errors import InputError, Problem
from harness.core.text import format_value
from harness.experiment.experiment import Experiment
from harness.experiment.grid import Axis, FieldValue, Grid, Indices, enumerate_grid
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    DECLARATIONS,
    NO_FINGERPRINT,
    Choice,
    Fingerprint,
    Trial,
    config_identity,
    field_identity,
    field_label,
    id_part,
    is_absent,
    is_left_out,
    make_id,
)

NAMED_WITHOUT_AXES: Final = tuple(n for n, declared in DECLARATIONS.items() if declared.names_trial)
"""Fields that name the trial of an experiment whose grid has no axes."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial of the plan.

    name: for people, from what varies ("mlp adam lr=0.01 cosine seed=0").
    axes: the value of each axis of its grid as its canonical text.
    fingerprint: of what it is to be trained on, a part of both ids.
    """

    trial: Trial
    trial_id: str
    config_id: str
    name: str
    axes: Mapping[str, str]
    fingerprint: Fingerprint = NO_FINGERPRINT


@dataclass(frozen=True, slots=True)
class SkippedTrial:
    """A combination left out, and why."""

    axes: Mapping[str, str]
    because: str


@dataclass(frozen=True, slots=True)
class Plan:
    """All trials of an experiment in grid order, every trial id once."""

    experiment: Experiment
    trials: tuple[PlannedTrial, ...]
    skipped: tuple[SkippedTrial, ...]


def make_plan(experiment: Experiment, data_root: Path | None = None) -> Plan:
    """Returns all trials of an experiment in grid order, and the combinations left out.

    Reads the checksums of the data sets under `data_root` (the data folder by default).
    Raises InputError where only a search gives the trials a field, or where every combination is
    skipped, and `DataMissing` naming every file that is wanted and absent.
    """
    search, where = experiment.search, experiment.where
    hint = "give it in trial or in grid, or run python -m harness.search"
    missing = [
        Problem(f"{name} is missing: only search.space gives it", where, hint)
        for name in (search.only_searched if search else ())
    ]
    if missing:
        raise InputError(missing)
    if not experiment.grid.combinations:
        raise InputError(Problem("every combination is skipped: nothing is left to run", where))
    return _make_plan(experiment, data_root)


def plan_bases(experiment: Experiment, data_root: Path | None = None) -> Plan:
    """Returns the trials that the studies of a search may start from: those of the grid, and those
    that a rule leaves out only for a value that the points replace. Raises `DataMissing`."""
    plan, search = _make_plan(experiment, data_root), experiment.search
    if search is None:
        return plan
    rules = tuple(rule for rule in experiment.skip if not search.varied(rule.when))
    if len(rules) == len(experiment.skip):
        return plan
    of = experiment.grid
    grid, _ = enumerate_grid(of.axes, of.parts, of.fields, rules)
    more = _make_plan(replace(experiment, grid=grid, skip=rules), data_root).trials
    trials = {planned.trial_id: planned for planned in (*plan.trials, *more)}
    return replace(plan, trials=tuple(trials.values()))


def _make_plan(experiment: Experiment, data_root: Path | None) -> Plan:
    grid = experiment.grid
    fingerprints = _fingerprints(grid, data_root or paths.data_root())
    fields = sorted(grid.fields.items())
    id_parts = {
        value: id_part(name, field_identity(name, value.value))
        for name, field in fields
        for value in field.values.values()
        if not is_left_out(name, value.value)
    }
    labels = {axis.field: _axis_labels(axis) for axis in grid.axes}

    def axis_texts(combination: Indices) -> dict[str, str]:
        positions = zip(labels.items(), combination, strict=True)
        return {name: texts[at] for (name, texts), at in positions if at < len(texts)}

    trials: dict[str, PlannedTrial] = {}
    skipped = [
        SkippedTrial(axis_texts(combination), experiment.skip[rule].because)
        for combination, rule in grid.skipped
    ]
    for combination in grid.combinations:
        values = {name: field.of(combination) for name, field in fields}
        fingerprint = fingerprints[values["dataset"], values["model"]]
        parts = {name: id_parts[value] for name, value in values.items() if value in id_parts}
        trial_id = make_id(parts.values(), fingerprint)
        texts = axis_texts(combination)
        if trial_id in trials:
            skipped.append(SkippedTrial(texts, f"the same trial as {trials[trial_id].name}"))
            continue
        trial = Trial(**{name: value.value for name, value in values.items()})
        config_id = make_id(config_identity(parts).values(), fingerprint)
        name = _trial_name(texts, trial)
        trials[trial_id] = PlannedTrial(trial, trial_id, config_id, name, texts, fingerprint)
    return Plan(experiment, tuple(trials.values()), tuple(skipped))


def _fingerprints(grid: Grid, data_root: Path) -> dict[tuple[FieldValue, FieldValue], Fingerprint]:
    """Returns the checksum of the files of each data set and model that occur together."""
    errors: dict[Any, None] = {}
    checksums: dict[FieldValue, str] = {}
    fingerprints: dict[tuple[FieldValue, FieldValue], Fingerprint] = {}
    for dataset, model in grid.distinct(["dataset", "model"]):
        for value, roots in ((dataset, (data_root,)), (model, ())):
            if value in checksums:
                continue
            choice: Choice[Any] = value.value
            try:
                checksums[value] = choice.component.fingerprint(choice.options, *roots)
            except InputError as error:
                checksums[value] = ""
                errors |= dict.fromkeys((type(error), problem) for problem in error.problems)
        fingerprints[dataset, model] = Fingerprint(checksums[dataset], checksums[model])
    if errors:
        kind = next(iter(errors))[0]
        raise kind([problem for _, problem in errors])
    return fingerprints


def _axis_labels(axis: Axis) -> list[str]:
    """Returns a text for each value of an axis. A component's is its name, with the options in
    which the components of that name differ."""
    if axis.field not in COMPONENT_FIELDS:
        return [field_label(axis.field, value) for value in axis.values]
    return [_choice_label(choice, axis.values) for choice in axis.values]


def _choice_label(choice: Choice[Any], others: Sequence[Choice[Any]]) -> str:
    same = [other.options.model_dump() for other in others if other.name == choice.name]
    options = choice.options.model_dump()
    differing = [
        f"{name}={format_value(value)}"
        for name, value in options.items()
        if any(other[name] != value for other in same)
    ]
    return f"{choice.name}({', '.join(differing)})" if differing else choice.name


def _trial_name(texts: Mapping[str, str], trial: Trial) -> str:
    """Returns what sets a trial apart in its experiment: "mlp adam lr=0.01 seed=0"."""
    fields = {name: getattr(trial, name) for name in NAMED_WITHOUT_AXES}
    varied = texts or {
        name: field_label(name, value)
        for name, value in fields.items()
        if not is_absent(name, value)
    }
    return " ".join(
        text if name in COMPONENT_FIELDS else f"{name}={text}" for name, text in varied.items()
    )
