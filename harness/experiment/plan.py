"""Turns an experiment into its trials: each with its ids, its name and its place in the grid.

Ids, names and texts are assembled from parts that are made once for each distinct value, so that
planning ten thousand trials takes a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.core import paths
from harness.core.errors import InputError
from harness.core.text import format_value
from harness.experiment.experiment import Experiment
from harness.experiment.grid import Axis, FieldValue, Grid, Indices
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    DECLARATIONS,
    NOT_IN_CONFIG_ID,
    SEMANTICS_VERSION,
    Choice,
    Trial,
    field_identity,
    field_label,
    short_hash,
)

NAMED_WITHOUT_AXES: Final = tuple(n for n, declared in DECLARATIONS.items() if declared.names_trial)
"""Fields that name the trial of an experiment whose grid has no axes."""


@dataclass(frozen=True, slots=True)
class PlannedTrial:
    """A trial of the plan.

    name: for people, from what varies ("mlp adam lr=0.01 cosine seed=0").
    axes: the value of each grid axis as its canonical text.
    fingerprint: checksum of the data set and of any weights file, a part of both ids.
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
    """All trials of an experiment in grid order, every trial id once."""

    experiment: Experiment
    trials: tuple[PlannedTrial, ...]
    skipped: tuple[SkippedTrial, ...]


def make_plan(experiment: Experiment, data_root: Path | None = None) -> Plan:
    """Returns all trials of an experiment in grid order, and the combinations left out.

    Reads the checksums of the data sets under `data_root` (the data folder by default).
    Raises InputError (`DataMissing`) naming every file that is wanted and absent.
    """
    grid = experiment.grid
    if grid is None:
        raise ValueError("only an experiment loaded from a file can be planned")
    fingerprints = _fingerprints(grid, data_root or paths.data_root())
    make_ids = _id_maker(grid)
    make_trial = _trial_maker(grid)
    labels = {axis.field: _axis_labels(axis) for axis in grid.axes}

    def axis_texts(combination: Indices) -> dict[str, str]:
        positions = zip(labels.items(), combination, strict=True)
        return {name: texts[position] for (name, texts), position in positions}

    trials: dict[str, PlannedTrial] = {}
    skipped = [
        SkippedTrial(axis_texts(combination), experiment.skip[rule].because)
        for combination, rule in grid.skipped
    ]
    for combination in grid.combinations:
        trial = make_trial(combination)
        fingerprint = fingerprints[id(trial.dataset), id(trial.model)]
        trial_id, config_id = make_ids(combination, fingerprint)
        texts = axis_texts(combination)
        if trial_id in trials:
            skipped.append(SkippedTrial(texts, f"the same trial as {trials[trial_id].name}"))
            continue
        name = _trial_name(texts, trial)
        trials[trial_id] = PlannedTrial(trial, trial_id, config_id, name, texts, fingerprint)
    return Plan(experiment, tuple(trials.values()), tuple(skipped))


def _trial_maker(grid: Grid) -> Callable[[Indices], Trial]:
    """Returns a function from a combination to its trial."""
    fixed = {name: field.values[()].value for name, field in grid.fields.items() if not field.axes}
    varied = [(name, field) for name, field in grid.fields.items() if field.axes]

    def make_trial(combination: Indices) -> Trial:
        return Trial(**fixed, **{name: field.of(combination).value for name, field in varied})

    return make_trial


def _fingerprints(grid: Grid, data_root: Path) -> dict[tuple[int, int], str]:
    """Returns the checksum of the files of each data set and model that occur together, by the
    `id()` of their choices."""
    errors: dict[Any, None] = {}
    checksums: dict[int, str] = {}
    fingerprints: dict[tuple[int, int], str] = {}
    for dataset, model in grid.distinct(["dataset", "model"]):
        for value, roots in ((dataset, (data_root,)), (model, ())):
            if id(value) in checksums:
                continue
            choice: Choice[Any] = value.value
            try:
                checksums[id(value)] = choice.component.fingerprint(choice.options, *roots)
            except InputError as error:
                checksums[id(value)] = ""
                errors |= dict.fromkeys((type(error), problem) for problem in error.problems)
        parts = (checksums[id(dataset)], checksums[id(model)])
        fingerprints[id(dataset.value), id(model.value)] = "+".join(filter(None, parts))
    if errors:
        kind = next(iter(errors))[0]
        raise kind([problem for _, problem in errors])
    return fingerprints


def _id_maker(grid: Grid) -> Callable[[Indices, str], tuple[str, str]]:
    """Returns a function from a combination and its fingerprint to its trial id and config id.

    The function hashes the JSON that `make_trial_id` and `make_config_id` hash, from texts made
    once for each value.
    """
    names = sorted(grid.fields)
    texts = {
        name: {indices: _identity_json(name, value) for indices, value in field.values.items()}
        for name, field in grid.fields.items()
    }
    fixed = {name: texts[name][()] for name in names if not grid.fields[name].axes}
    varied = [(name, grid.fields[name].pick) for name in names if grid.fields[name].axes]

    def make_ids(combination: Indices, fingerprint: str) -> tuple[str, str]:
        parts = fixed | {name: texts[name][pick(combination)] for name, pick in varied}
        head = f'{{"data":{json.dumps(fingerprint)},"semantics":{SEMANTICS_VERSION},"trial":{{'
        trial = ",".join([parts[name] for name in names])
        config = ",".join([parts[name] for name in names if name not in NOT_IN_CONFIG_ID])
        return short_hash(head + trial + "}}"), short_hash(head + config + "}}")

    return make_ids


def _identity_json(name: str, field_value: FieldValue) -> str:
    """Returns one field of a trial's identity as JSON."""
    if not field_value.valid:
        return ""
    value = field_identity(name, field_value.value)
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f'"{name}":{written}'


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
    varied = texts or {name: field_label(name, getattr(trial, name)) for name in NAMED_WITHOUT_AXES}
    return " ".join(
        text if name in COMPONENT_FIELDS else f"{name}={text}" for name, text in varied.items()
    )
