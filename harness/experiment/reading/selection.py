"""What trials are selected on, and which metrics they record for it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from harness.components.base import DataInfo, Metric, Task
from harness.components.registry import components, find
from harness.core.errors import InputError, did_you_mean
from harness.experiment.fields import SELECTION_PATTERN, SPLITS
from harness.experiment.grid import Cell, Factor
from harness.experiment.reading.document import Document, Faults
from harness.experiment.reading.factors import UNUSABLE, Given, plain_factor
from harness.experiment.reading.messages import shown
from harness.experiment.reading.yaml import Keys

LOSS = "loss"
"""Recorded on every split besides the metrics; what training minimises."""

Infos = Mapping[Cell, DataInfo]
"""What is known of each data set, by its cell; absent where it could not be told."""


@dataclass(frozen=True, slots=True)
class Selection:
    """metric: "val/accuracy". component: None for the loss."""

    metric: str
    component: Metric | None
    direction: Literal["max", "min"]

    @property
    def name(self) -> str:
        return self.metric.partition("/")[2]


def fits(metric: Metric, info: DataInfo) -> bool:
    """Whether a metric says something about a data set."""
    enough = info.task is Task.REGRESSION or len(info.classes) >= metric.min_classes
    return info.task in metric.tasks and enough


def default_metrics(info: DataInfo) -> list[str]:
    """The metrics recorded by default for a data set's task, in alphabetical order."""
    metrics = cast("Mapping[str, Metric]", components("metrics"))
    return [n for n, m in metrics.items() if info.task in m.default_for and fits(m, info)]


def select(
    document: Document, infos: Infos, val_fraction: Factor, faults: Faults
) -> Selection | None:
    """The selection metric, given or by default; None after reporting why there is none."""
    without_val = [cell for cell in val_fraction.cells.values() if cell.value == 0]
    metric = document.values.get("metric")
    if metric is None:
        first = next((default_metrics(info) for info in infos.values()), [])
        if not first:
            return None
        split = "test" if len(without_val) == len(val_fraction.cells) else "val"
        metric = f"{split}/{first[0]}"
    elif not isinstance(metric, str) or not re.fullmatch(SELECTION_PATTERN, metric):
        rule = f"must be a split and a metric, given {shown(metric)}"
        faults.add(("metric",), rule, did_you_mean(str(metric), _all_measures()))
        return None
    if metric.startswith("val/") and without_val:
        faults.add(
            without_val[0].keys,
            f"is 0, so there are no validation examples for the metric {metric!r}",
            "select on test/… or train/…, or keep validation examples",
        )
    return resolve(metric, infos.values(), ("metric",), faults)


def _all_measures() -> list[str]:
    names = (LOSS, *components("metrics"))
    return [f"{split}/{name}" for split in SPLITS for name in names]


def resolve(metric: str, infos: Iterable[DataInfo], keys: Keys, faults: Faults) -> Selection | None:
    """The metric of a name like "val/accuracy"; None after reporting that it is unknown, or that
    it says nothing about a data set's task."""
    split, _, name = metric.partition("/")
    if name == LOSS:
        return Selection(metric, None, "min")
    component = metric_component(name, keys, faults, prefix=f"{split}/")
    if component is None:
        return None
    misfits = [info for info in infos if not fits(component, info)]
    if misfits:
        faults.add(keys, misfit(component, misfits[0]), hint_for(misfits[0], f"{split}/"))
        return None
    return Selection(metric, component, component.direction)


def metric_component(name: str, keys: Keys, faults: Faults, prefix: str = "") -> Metric | None:
    """The metric of a name, or None after reporting that there is none."""
    try:
        return cast("Metric", find("metrics", name))
    except InputError:
        known = [prefix + known for known in (*components("metrics"), *([LOSS] if prefix else []))]
        faults.add(keys, f"no metric {name!r} is registered", did_you_mean(prefix + name, known))
        return None


def misfit(metric: Metric, info: DataInfo) -> str:
    """Why a metric does not fit a data set."""
    if info.task not in metric.tasks:
        return f"metric {metric.name!r} does not fit a {info.task} data set"
    classes = len(info.classes)
    return f"metric {metric.name!r} wants {metric.min_classes} classes, the data set has {classes}"


def hint_for(info: DataInfo, prefix: str = "") -> str:
    """The metrics that do fit a data set, and the loss where a split stands in front."""
    metrics = cast("Mapping[str, Metric]", components("metrics"))
    names = [prefix + name for name, metric in metrics.items() if fits(metric, info)]
    if prefix:
        names.append(prefix + LOSS)
    return "allowed: " + ", ".join(names)


def metrics_factor(
    given: Given, dataset: Factor, infos: Infos, selection: Selection | None, faults: Faults
) -> Factor:
    """The metrics recorded at each evaluation: those given or the task's own, and the selection
    metric. In alphabetical order: their order is no part of a trial."""
    always = [] if selection is None or selection.component is None else [selection.name]
    if "metrics" not in given.axes and "metrics" not in given.fixed:
        cells = {}
        for key, cell in dataset.cells.items():
            names = default_metrics(infos[cell]) if cell in infos else []
            cells[key] = _cell([*names, *always], ("trial", "metrics"))
        return Factor("metrics", dataset.axes, cells)
    plain = plain_factor("metrics", given, faults)
    return Factor(
        "metrics",
        plain.axes,
        {key: _checked(cell, always, faults) for key, cell in plain.cells.items()},
    )


def _checked(cell: Cell, always: list[str], faults: Faults) -> Cell:
    if not cell.sound:
        return cell
    if cell.value is None:
        faults.add(cell.keys, "must be a list, given null")
        return UNUSABLE
    found = [
        metric_component(name, (*cell.keys, position), faults)
        for position, name in enumerate(cell.value)
    ]
    repeated = {name for name in cell.value if cell.value.count(name) > 1}
    for name in sorted(repeated):
        faults.add(cell.keys, f"{name!r} is given twice")
    if None in found or repeated:
        return UNUSABLE
    return _cell([*cell.value, *always], cell.keys)


def _cell(names: Iterable[Any], keys: Keys) -> Cell:
    value = tuple(sorted(set(names)))
    return Cell(value, list(value), keys)
