"""What trials are selected on, and which metrics they record."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from harness.components.base import DataInfo, Metric, Task
from harness.components.registry import components, find
from harness.core.errors import InputError, did_you_mean
from harness.experiment.fields import SELECTION_PATTERN, SPLITS
from harness.experiment.grid import REPORTED, FieldValue, GridField
from harness.experiment.reading.file import ExperimentFile
from harness.experiment.reading.validation import shown
from harness.experiment.reading.yaml import Keys

LOSS = "loss"
"""Recorded on every split beside the metrics; what training minimises."""

DataInfos = Mapping[FieldValue, DataInfo]
"""What is known of each data set. A data set that cannot be described is absent."""


@dataclass(frozen=True, slots=True)
class Selection:
    """metric: "val/accuracy". component: None for the loss."""

    metric: str
    component: Metric | None
    direction: Literal["max", "min"]

    @property
    def name(self) -> str:
        return self.metric.partition("/")[2]


def _all_metrics() -> Mapping[str, Metric]:
    return cast("Mapping[str, Metric]", components("metrics"))


def _fits(metric: Metric, info: DataInfo) -> bool:
    """Whether a metric is defined for a data set."""
    enough = info.task is Task.REGRESSION or len(info.classes) >= metric.min_classes
    return info.task in metric.tasks and enough


def _defaults(info: DataInfo) -> list[str]:
    """Returns the metrics recorded by default for a data set's task, in alphabetical order."""
    metrics = _all_metrics().items()
    return [name for name, m in metrics if info.task in m.default_for and _fits(m, info)]


def select(file: ExperimentFile, infos: DataInfos, val_fraction: GridField) -> Selection | None:
    """Returns the selection metric, given or by default; None after reporting why there is none."""
    without_val = [value for value in val_fraction.values.values() if value.value == 0]
    metric = file.values.get("metric")
    if metric is None:
        first = next((_defaults(info) for info in infos.values()), [])
        if not first:
            return None
        split = "test" if len(without_val) == len(val_fraction.values) else "val"
        metric = f"{split}/{first[0]}"
    elif not isinstance(metric, str) or not re.fullmatch(SELECTION_PATTERN, metric):
        measures = [f"{split}/{name}" for split in SPLITS for name in (LOSS, *_all_metrics())]
        rule = f"must be a split and a metric, given {shown(metric)}"
        file.report(("metric",), rule, did_you_mean(str(metric), measures))
        return None
    if metric.startswith("val/") and without_val:
        file.report(
            without_val[0].keys,
            f"is 0, so there are no validation examples for the metric {metric!r}",
            "select on test/… or train/…, or keep validation examples",
        )
    return resolve(metric, infos.values(), ("metric",), file)


def resolve(
    metric: str, infos: Iterable[DataInfo], keys: Keys, file: ExperimentFile
) -> Selection | None:
    """Returns the metric of a name like "val/accuracy"; None after reporting that it is unknown, or
    that it is not defined for a data set."""
    split, _, name = metric.partition("/")
    if name == LOSS:
        return Selection(metric, None, "min")
    component = _find(name, keys, file, prefix=f"{split}/")
    if component is None:
        return None
    if not all(check_fit(component, info, keys, file, prefix=f"{split}/") for info in infos):
        return None
    return Selection(metric, component, component.direction)


def _find(name: str, keys: Keys, file: ExperimentFile, prefix: str = "") -> Metric | None:
    try:
        return cast("Metric", find("metrics", name))
    except InputError:
        known = [prefix + known for known in (*_all_metrics(), *([LOSS] if prefix else []))]
        rule = f"no metric {name!r} is registered"
        file.report(keys, rule, did_you_mean(prefix + name, known))
        return None


def check_fit(
    metric: Metric, info: DataInfo, keys: Keys, file: ExperimentFile, prefix: str = ""
) -> bool:
    """Whether a metric is defined for a data set. Reports it otherwise, with those that are.

    prefix: "val/" where a split stands before the names; the loss is allowed then too.
    """
    if _fits(metric, info):
        return True
    rule = f"metric {metric.name!r} does not fit a {info.task} data set"
    if info.task in metric.tasks:
        classes = len(info.classes)
        rule = f"metric {metric.name!r} needs {metric.min_classes} classes, but "
        rule += f"the data set has {classes}"
    allowed = [prefix + name for name, other in _all_metrics().items() if _fits(other, info)]
    allowed += [prefix + LOSS] if prefix else []
    file.report(keys, rule, "allowed: " + ", ".join(allowed))
    return False


def resolve_metrics(
    listed: GridField | None,
    dataset: GridField,
    infos: DataInfos,
    selection: Selection | None,
    file: ExperimentFile,
) -> GridField:
    """Returns the metrics recorded at each evaluation: those that the file lists, or else those of
    the data set's task; and always the selection metric.

    The names are sorted, as their order is no part of a trial.
    """
    always = [] if selection is None or selection.component is None else [selection.name]
    values = {}
    if listed is None:
        for indices, value in dataset.values.items():
            names = _defaults(infos[value]) if value in infos else []
            values[indices] = _recorded([*names, *always], ("trial", "metrics"))
        return GridField("metrics", dataset.axes, values)
    for indices, value in listed.values.items():
        valid = value.valid and _names_are_valid(value, file)
        names = [*value.value, *always] if valid else []
        values[indices] = _recorded(names, value.keys) if valid else REPORTED
    return GridField("metrics", listed.axes, values)


def _names_are_valid(names: FieldValue, file: ExperimentFile) -> bool:
    if names.value is None:
        file.report(names.keys, "must be a list, given null")
        return False
    metrics = [_find(name, (*names.keys, i), file) for i, name in enumerate(names.value)]
    repeated = sorted({name for name in names.value if names.value.count(name) > 1})
    for name in repeated:
        file.report(names.keys, f"{name!r} is given twice")
    return None not in metrics and not repeated


def _recorded(names: Iterable[Any], keys: Keys) -> FieldValue:
    value = tuple(sorted(set(names)))
    return FieldValue(value, list(value), keys)
