"""The cases of an experiment's own components: as its trials use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from harness.components.base import ABSENT, KINDS, DataInfo, Task
from harness.components.registry import SINGULAR, find, named_components
from harness.core.text import plural
from harness.diagnostics.contract.case import Case
from harness.experiment.experiment import Experiment
from harness.experiment.trial import COMPONENT_FIELDS, Choice

SMALL: Final = DataInfo(Task.MULTICLASS, (4,), ("a", "b", "c"))
"""What the components of an experiment without a data set are checked on."""
MOST_CASES: Final = 3
"""The most sets of options and data on which one component is checked."""


@dataclass(slots=True)
class OwnComponents:
    """cases: what to check. unchecked: what is not checked, in words."""

    cases: list[Case] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)


def own_components(experiment: Experiment, data_root: Path) -> OwnComponents:
    """Returns the components that come from the code an experiment file names: with the options and
    on the data of its trials, and the others of its code with their defaults."""
    found, count = OwnComponents(), Counter[tuple[str, str]]()
    used: dict[object, Case] = {}
    for case in _of_trials(experiment, data_root):
        outputs = case.outputs if case.choice.component.kind == "models" else 0
        used.setdefault((case.choice, case.dataset, outputs), case)
    for case in used.values():
        component = case.choice.component
        count[component.kind, component.name] += 1
        if count[component.kind, component.name] <= MOST_CASES:
            found.cases.append(case)
    for (kind, name), cases in count.items():
        if cases > MOST_CASES:
            more = plural(cases - MOST_CASES, "more set of options", "more sets of options")
            found.unchecked.append(f"{SINGULAR[kind]} {name}: {more} not checked")
    dataset, info = _first_data(experiment, data_root)
    for component in (c for kind in KINDS for c in named_components(kind).values()):
        if component.code and (component.kind, component.name) not in count:
            try:
                choice = Choice(component, component.options())
            except ValidationError as error:
                names = ", ".join(str(fault["loc"][0]) for fault in error.errors())
                label = f"{SINGULAR[component.kind]} {component.name}"
                found.unchecked.append(f"{label}: no trial uses it, and {names} must be given")
                continue
            found.cases.append(_case(choice, info, _outputs(info), data_root, dataset))
    order = list(KINDS)
    found.cases.sort(key=lambda case: order.index(case.choice.component.kind))
    return found


def _of_trials(experiment: Experiment, data_root: Path) -> Iterator[Case]:
    """Yields the cases of the components that trials use."""
    fields = ("dataset", "loss", "model", "optimizer", "scheduler", "augment", "metrics")
    for name in fields[2:]:
        for dataset, loss, value in experiment.grid.distinct(("dataset", "loss", name)):
            data: Choice[Any] = dataset.value
            info = _info(data, data_root)
            absent = loss.value.component is ABSENT["losses"]
            outputs = _outputs(info) if absent else loss.value.component.outputs(info)
            for choice in (data, loss.value, *_choices(name, value.value)):
                if choice.component.code:
                    yield _case(choice, info, outputs, data_root, data.name)
    if experiment.search is not None:
        dataset_name, info = _first_data(experiment, data_root)
        for dimension in experiment.search.space:
            for value in getattr(dimension, "values", ()):
                if dimension.field in COMPONENT_FIELDS and value.component.code:
                    yield _case(value, info, _outputs(info), data_root, dataset_name)


def _choices(field_name: str, value: Any) -> Iterable[Choice[Any]]:
    if field_name == "metrics":
        components = [find("metrics", name) for name in value]
        return [Choice(component, component.options()) for component in components]
    return value if isinstance(value, tuple) else (value,)


def _case(choice: Choice[Any], info: DataInfo, outputs: int, data_root: Path, dataset: str) -> Case:
    """Returns a case that is equal for equal checks: an optimizer sees no data."""
    sees_data = choice.component.kind not in ("optimizers", "schedulers", "datasets")
    return Case(choice, info, outputs, data_root, dataset if sees_data else "")


def _first_data(experiment: Experiment, data_root: Path) -> tuple[str, DataInfo]:
    (first,) = next(iter(experiment.grid.distinct(["dataset"])))
    choice: Choice[Any] = first.value
    return choice.name, _info(choice, data_root)


def _info(dataset: Choice[Any], data_root: Path) -> DataInfo:
    if dataset.component is ABSENT["datasets"]:
        return SMALL
    info: DataInfo = dataset.component.info(dataset.options, data_root)
    return info


def _outputs(info: DataInfo) -> int:
    return info.classes or info.targets
