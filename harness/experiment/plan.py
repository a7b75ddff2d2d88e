"""From an experiment to its trials: each with its id, its name and its place in the grid.

Ids, names and texts are put together from parts made once for each distinct value, so that
planning ten thousand trials takes a fraction of a second.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.core import paths
from harness.core.errors import InputError
from harness.core.text import format_value
from harness.experiment.experiment import Experiment
from harness.experiment.grid import Axis, Cell, Grid, Indices
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    DECLARATIONS,
    NOT_IN_CONFIG_ID,
    SEMANTICS_VERSION,
    Choice,
    Trial,
    field_label,
    short_hash,
)

NAMED_WITHOUT_AXES: Final = tuple(n for n, declared in DECLARATIONS.items() if declared.names_trial)
"""Fields that name the trial of an experiment whose grid varies nothing."""


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


def make_plan(experiment: Experiment, data_root: Path | None = None) -> Plan:
    """All trials of an experiment, in grid order, and the combinations left out with the reason.

    Reads the checksums of the data sets under `data_root` (the data folder by default).
    Raises InputError (`DataMissing`) naming every file that is wanted and absent.
    """
    grid = experiment.grid
    if grid is None:
        raise ValueError("only an experiment loaded from a file can be planned")
    fingerprints = _fingerprints(grid, data_root or paths.data_root())
    identify = _identifier(grid)
    labels = _labels(grid.axes)
    build = _builder(grid)
    trials: dict[str, PlannedTrial] = {}
    skipped = [
        SkippedTrial(_texts(grid.axes, labels, combination), experiment.skip[rule].because)
        for combination, rule in grid.skipped
    ]
    for combination in grid.kept:
        trial = build(combination)
        fingerprint = fingerprints[id(trial.dataset), id(trial.model)]
        trial_id, config_id = identify(combination, fingerprint)
        texts = _texts(grid.axes, labels, combination)
        if trial_id in trials:
            skipped.append(SkippedTrial(texts, f"the same trial as {trials[trial_id].name}"))
            continue
        name = _name(grid.axes, texts, trial)
        trials[trial_id] = PlannedTrial(trial, trial_id, config_id, name, texts, fingerprint)
    return Plan(experiment, tuple(trials.values()), tuple(skipped))


def _builder(grid: Grid) -> Callable[[Indices], Trial]:
    """A function from a combination to its trial."""
    fixed = {name: f.cells[()].value for name, f in grid.factors.items() if not f.axes}
    varied = [(name, f) for name, f in grid.factors.items() if f.axes]

    def build(combination: Indices) -> Trial:
        return Trial(**fixed, **{name: factor.of(combination).value for name, factor in varied})

    return build


def _fingerprints(grid: Grid, data_root: Path) -> dict[tuple[int, int], str]:
    """By the identities of the chosen data set and model, what their files add to an id."""
    problems: dict[Any, None] = {}
    found: dict[tuple[int, int], str] = {}
    read: dict[int, str] = {}
    for dataset, model in grid.distinct(["dataset", "model"]):
        for cell, places in ((dataset, (data_root,)), (model, ())):
            if id(cell) not in read:
                try:
                    choice: Choice[Any] = cell.value
                    read[id(cell)] = choice.component.fingerprint(choice.options, *places)
                except InputError as error:
                    read[id(cell)] = ""
                    problems |= dict.fromkeys((type(error), p) for p in error.problems)
        parts = (read[id(dataset)], read[id(model)])
        found[id(dataset.value), id(model.value)] = "+".join(part for part in parts if part)
    if problems:
        kind = next(iter(problems))[0]
        raise kind([problem for _, problem in problems])
    return found


def _identifier(grid: Grid) -> Callable[[Indices, str], tuple[str, str]]:
    """A function from a combination and its fingerprint to the ids of its trial and its config.

    Writes the JSON that `make_trial_id` writes, from texts made once for each cell.
    """
    fields = sorted(grid.factors)
    varied = [name for name in fields if grid.factors[name].axes]
    pieces = {
        name: {key: _piece(name, cell) for key, cell in grid.factors[name].cells.items()}
        for name in fields
    }
    fixed = {name: pieces[name][()] for name in fields if name not in varied}

    def identify(combination: Indices, fingerprint: str) -> tuple[str, str]:
        here = {**fixed}
        for name in varied:
            factor = grid.factors[name]
            here[name] = pieces[name][factor.pick(combination)]
        head = f'{{"data":{json.dumps(fingerprint)},"semantics":{SEMANTICS_VERSION},"trial":{{'
        whole = ",".join([here[name] for name in fields])
        without_seed = ",".join([here[name] for name in fields if name not in NOT_IN_CONFIG_ID])
        return short_hash(head + whole + "}}"), short_hash(head + without_seed + "}}")

    return identify


def _piece(name: str, cell: Cell) -> str:
    """One field of a trial's identity as JSON, as `make_trial_id` writes it."""
    value = cell.value
    if not cell.sound:
        return ""
    if name in COMPONENT_FIELDS:
        value = value.identity()
    elif name in COMPONENT_LIST_FIELDS:
        value = [choice.identity() for choice in value]
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f'"{name}":{written}'


def _labels(axes: Iterable[Axis]) -> list[list[str]]:
    """For each axis, its values' texts."""
    return [_axis_labels(axis) for axis in axes]


def _axis_labels(axis: Axis) -> list[str]:
    """Components by name alone where that tells an axis's values apart; else with the options in
    which those of one name differ."""
    if axis.field not in COMPONENT_FIELDS:
        return [field_label(axis.field, value) for value in axis.values]
    return [_among(choice, axis.values) for choice in axis.values]


def _among(choice: Choice[Any], others: Iterable[Choice[Any]]) -> str:
    options = [other.options.model_dump() for other in others if other.name == choice.name]
    own = choice.options.model_dump()
    differing = [key for key in own if any(other[key] != own[key] for other in options)]
    told = ", ".join(f"{key}={format_value(own[key])}" for key in differing)
    return f"{choice.name}({told})" if told else choice.name


def _texts(axes: tuple[Axis, ...], labels: list[list[str]], combination: Indices) -> dict[str, str]:
    return {
        axis.field: label[index]
        for axis, label, index in zip(axes, labels, combination, strict=True)
    }


def _name(axes: tuple[Axis, ...], texts: Mapping[str, str], trial: Trial) -> str:
    """What sets a trial apart in its experiment, for people: "mlp adam lr=0.01 seed=0"."""
    varied = texts if axes else {f: field_label(f, getattr(trial, f)) for f in NAMED_WITHOUT_AXES}
    return " ".join(
        value if name in COMPONENT_FIELDS else f"{name}={value}" for name, value in varied.items()
    )
