"""The cases of an experiment's own components: as its trials use them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from harness.components.base import ABSENT, KINDS, SINGULAR, DataInfo, Task
from harness.components.registry import find, named_components
from harness.core.text import plural
from harness.diagnostics.contract.case import Case
from harness.experiment.experiment import Experiment
from harness.experiment.trial import COMPONENT_FIELDS, COMPONENT_LIST_FIELDS, Choice

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
        used.setdefault((case.choice, case.dataset, case.model, outputs), case)
    for case in used.values():
        component = case.choice.component
        count[component.kind, component.name] += 1
        if count[component.kind, component.name] <= MOST_CASES:
            found.cases.append(case)
    for (kind, name), cases in count.items():
        if cases > MOST_CASES:
            more = plural(cases - MOST_CASES, "more set of options", "more sets of options")
            found.unchecked.append(f"{SINGULAR[kind]} {name}: {more} not checked")
    for component in (c for kind in KINDS for c in named_components(kind).values()):
        if component.code and (component.kind, component.name) not in count:
            try:
                choice = Choice(component, component.options())
            except ValidationError as error:
                names = ", ".join(str(fault["loc"][0]) for fault in error.errors())
                label = f"{SINGULAR[component.kind]} {component.name}"
                found.unchecked.append(f"{label}: no trial uses it, and {names} must be given")
                continue
            found.cases.append(_case(choice, *_first_task(experiment), data_root))
    order = list(KINDS)
    found.cases.sort(key=lambda case: order.index(case.choice.component.kind))
    return found


def _of_trials(experiment: Experiment, data_root: Path) -> Iterator[Case]:
    """Yields the cases of the components that trials use."""
    task = ("dataset", "model", "loss")
    for name in (*COMPONENT_FIELDS, *COMPONENT_LIST_FIELDS, "metrics"):
        if name in task:
            continue
        for *of_task, value in experiment.grid.distinct((*task, name)):
            data, model, loss = (part.value for part in of_task)
            for choice in (data, model, loss, *_choices(name, value.value)):
                if choice.component.code:
                    yield _case(choice, data, model, loss, data_root)
    if experiment.search is not None:
        task_of_first = _first_task(experiment)
        for dimension in experiment.search.space:
            for value in getattr(dimension, "values", ()):
                if dimension.field in COMPONENT_FIELDS and value.component.code:
                    yield _case(value, *task_of_first, data_root)


def _choices(field_name: str, value: Any) -> Iterable[Choice[Any]]:
    if field_name == "metrics":
        components = [find("metrics", name) for name in value]
        return [Choice(component, component.options()) for component in components]
    return value if isinstance(value, tuple) else (value,)


def _case(
    choice: Choice[Any],
    dataset: Choice[Any],
    model: Choice[Any],
    loss: Choice[Any],
    data_root: Path,
) -> Case:
    """Returns the case of a component of trials with this task."""
    info = _info(dataset, data_root)
    is_absent = loss.component is ABSENT["losses"]
    outputs = (info.classes or info.targets) if is_absent else loss.component.outputs(info)
    sees_data = choice.component.kind not in ("optimizers", "schedulers", "datasets")
    trains = choice.component.kind == "training_steps"
    where = dataset.name if sees_data else ""
    return Case(choice, info, outputs, data_root, where, model if trains else None)


def _first_task(experiment: Experiment) -> tuple[Choice[Any], Choice[Any], Choice[Any]]:
    """Returns the data set, the model and the loss of the first trial."""
    dataset, model, loss = next(iter(experiment.grid.distinct(("dataset", "model", "loss"))))
    return dataset.value, model.value, loss.value


def _info(dataset: Choice[Any], data_root: Path) -> DataInfo:
    if dataset.component is ABSENT["datasets"]:
        return SMALL
    info: DataInfo = dataset.component.info(dataset.options, data_root)
    return info
