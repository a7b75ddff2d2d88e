"""Reads what a file says of components, of conditions on trials, and of metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast, get_args

from pydantic import ValidationError

from harness.components.base import SINGULAR, Component, DataInfo, Loss, Metric, Model
from harness.components.registry import components, find, named_components, refer
from harness.core.errors import InputError, did_you_mean
from harness.core.metrics import Direction
from harness.experiment.fields import (
    COMPONENT_KINDS,
    SELECTION_PATTERN,
    TrialFields,
    is_known,
    split,
)
from harness.experiment.grid import REPORTED, FieldValue, GridField, Indices
from harness.experiment.reading.file import ExperimentFile, dotted
from harness.experiment.reading.hints import LOSS, field_hint, metric_hint, value_hint
from harness.experiment.reading.validation import INVALID, option_messages, shown, validate
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    NO_AUGMENTATION,
    Choice,
    is_absent,
)

DataInfos = Mapping[FieldValue, DataInfo]
"""What is known of each data set. A data set that cannot be described is absent."""

Chosen = Mapping[str, Sequence[Component]]
"""The components that a file chooses, by trial field."""

Report = Callable[[Keys, str, str], None]
"""Takes a broken rule: its place, the rule and a hint."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A value that a file gives, and its place."""

    value: Any
    keys: Keys


@dataclass(frozen=True, slots=True)
class ComponentReference:
    """A component that a file names. options: those beside the name, not validated yet."""

    component: Component
    options: Mapping[str, Any]
    keys: Keys


def find_component(
    field: str, value: Any, keys: Keys, file: ExperimentFile
) -> ComponentReference | None:
    """Returns the component that a field names, or None after reporting why there is none."""
    kind = COMPONENT_KINDS[field]
    options = dict(value) if isinstance(value, Mapping) else {}
    name = options.pop("name", None) if isinstance(value, Mapping) else value
    if not isinstance(name, str):
        singular = SINGULAR[kind]
        article = "an" if singular[0] in "aeiou" else "a"
        rule = f"must be {article} {singular}'s name, or a mapping with `name` and its options"
        hint = value_hint(value) or "write it as {name: …, option: value}"
        file.report(keys, f"{rule}, given {shown(value)}", hint)
        return None
    try:
        refer(kind, name)
        return ComponentReference(find(kind, name), options, keys)
    except InputError as error:
        place = (*keys, "name") if isinstance(value, Mapping) else keys
        for problem in error.problems:
            what = problem.what.partition(": ")[2] or problem.what
            what += f" ({problem.where})" if problem.where else ""
            file.report_text(place, f"{dotted(keys)}: {what}", problem.hint)
        return None


def make_choice(
    reference: ComponentReference, options: Mapping[str, Entry], report: Report
) -> Choice[Any] | None:
    """Returns the component with validated options, or None after reporting the problem.

    options: those given apart from the component, as `optimizer.eps`. An option that is given
        twice is refused.
    """
    component = reference.component
    twice = [name for name in options if name in reference.options]
    for name in twice:
        rule = f"{name!r} is given twice, here and in {dotted(reference.keys)}"
        report(options[name].keys, rule, "")
    values = {**reference.options, **{name: entry.value for name, entry in options.items()}}
    try:
        validated = component.options.model_validate(values)
    except ValidationError as error:
        owner = f"{SINGULAR[component.kind]} {component.name!r}"
        for message in option_messages(error, component.options, owner):
            keys = (*reference.keys, *message.at)
            if message.at and message.at[0] in options:
                keys = (*options[str(message.at[0])].keys, *message.at[1:])
            report(keys, message.rule, message.hint)
        return None
    return None if twice else Choice(component, validated)


def read_component(field: str, value: Any, keys: Keys, file: ExperimentFile) -> Any:
    """Returns the component that a field names, with the options beside the name, or INVALID after
    reporting the problem."""
    reference = find_component(field, value, keys, file)
    choice = make_choice(reference, {}, file.report) if reference else None
    return INVALID if choice is None else choice


def read_value(field: str, value: Any, keys: Keys, file: ExperimentFile) -> Any:
    """Returns the value of a field as `Trial` takes it, or INVALID after reporting the problem."""
    if field in COMPONENT_FIELDS:
        return read_component(field, value, keys, file)
    if field not in COMPONENT_LIST_FIELDS:
        return validate(TrialFields, field, value, keys, file)
    if value == NO_AUGMENTATION:
        return ()
    if isinstance(value, list):
        chosen = [read_component(field, item, (*keys, i), file) for i, item in enumerate(value)]
    else:
        chosen = [read_component(field, value, keys, file)]
    return INVALID if INVALID in chosen else tuple(chosen)


def check_option(field: str, chosen: Iterable[Component], keys: Keys, file: ExperimentFile) -> bool:
    """Whether some component, registered or chosen, has the option that `field` names after its
    dot. Reports it otherwise."""
    root, option = split(field)
    kind = COMPONENT_KINDS[root]
    candidates = [*components(kind).values(), *chosen]
    known = {name for component in candidates for name in component.options.model_fields}
    takes_any = any(c.options.model_config.get("extra") == "allow" for c in candidates)
    if option not in known and not takes_any:
        rule = f"no {SINGULAR[kind]} has an option {option!r}"
        file.report(keys, rule, did_you_mean(option, known))
        return False
    return True


def check_condition(
    condition: Mapping[str, Any], keys: Keys, chosen: Chosen, file: ExperimentFile
) -> bool:
    """Whether all fields and values of a condition are valid. Reports those that are not."""
    checks = [
        _check_field(field, wanted, (*keys, field), chosen, file)
        for field, wanted in condition.items()
    ]
    return all(checks)


def _check_field(field: str, wanted: Any, keys: Keys, chosen: Chosen, file: ExperimentFile) -> bool:
    root, option = split(field)
    if not is_known(field):
        file.report(keys, "unknown field", field_hint(field))
        return False
    if option:
        return check_option(field, chosen.get(root, ()), keys, file)
    if field == "metrics":
        return True
    several = isinstance(wanted, list)
    if field in COMPONENT_LIST_FIELDS:  # where a plain list is one value
        several = several and any(i == NO_AUGMENTATION or isinstance(i, list) for i in wanted)
    if not several:
        return read_value(field, wanted, keys, file) is not INVALID
    if not wanted:
        file.report(keys, "an empty list matches nothing")
    values = [read_value(field, item, (*keys, i), file) for i, item in enumerate(wanted)]
    return bool(wanted) and INVALID not in values


def check_data(
    choice: Choice[Any], dataset: FieldValue, info: DataInfo, keys: Keys, file: ExperimentFile
) -> None:
    """Reports a model that cannot take a data set, and a loss that does not fit its task."""
    component = choice.component
    if isinstance(component, Model):
        reason = component.accepts(choice.options, info)
        if reason:
            rule = f"{choice.name} cannot take {dataset.value.name}: {reason}"
            file.report(keys, rule)
        elif info.tokens and not component.takes_tokens:
            rule = f"{choice.name} cannot take {dataset.value.name}: its inputs are token numbers "
            rule += f"(whole numbers below {info.tokens}), and the model takes floats"
            hint = "return floats if they are measurements, or name a model of your own"
            file.report(keys, rule, hint)
    if isinstance(component, Loss) and info.task not in component.tasks:
        losses = cast("Mapping[str, Loss]", components("losses")).items()
        fitting = ", ".join(name for name, loss in losses if info.task in loss.tasks)
        rule = f"loss {choice.name!r} does not fit {_a_data_set(info)}"
        file.report(keys, rule, f"allowed: {fitting}")


def _a_data_set(info: DataInfo) -> str:
    article = "an" if info.task[0] in "aeiou" else "a"
    return f"{article} {info.task} data set"


@dataclass(frozen=True, slots=True)
class Selection:
    """metric: "val/accuracy". component: None for the loss, and for a metric that only a training
    loop knows."""

    metric: str
    component: Metric | None
    direction: Direction

    @property
    def name(self) -> str:
        return self.metric.partition("/")[2]


def _all_metrics() -> Mapping[str, Metric]:
    return cast("Mapping[str, Metric]", named_components("metrics"))


def _fits(metric: Metric, info: DataInfo) -> bool:
    """Whether a metric is defined for a data set."""
    return info.task in metric.tasks and info.classes >= metric.min_classes


def _defaults(info: DataInfo) -> list[str]:
    """Returns the metrics recorded by default for a data set's task, in alphabetical order."""
    metrics = _all_metrics().items()
    return [name for name, m in metrics if info.task in m.default_for and _fits(m, info)]


def select(
    file: ExperimentFile, infos: DataInfos, val_fraction: GridField, loops: GridField
) -> Selection | None:
    """Returns the selection metric, given or by default; None after reporting why there is none.

    loops: the training loops. They may yield metrics that are not registered.
    """
    chosen = [is_absent(loops.name, value.value) for value in loops.values.values()]
    may_be_own = not all(chosen)
    without_val = [value for value in val_fraction.values.values() if value.value == 0]
    metric = file.values.get("metric")
    if metric is None:
        first = next((_defaults(info) for info in infos.values()), [])
        if not first:
            if may_be_own and not infos:
                rule = "metric is missing: a training loop's trials are ranked by what it yields"
                hint = "write metric: val/reward and direction: max, say"
                file.report_text(("metric",), rule, hint)
            return None
        split = "test" if len(without_val) == len(val_fraction.values) else "val"
        metric = f"{split}/{first[0]}"
    elif not isinstance(metric, str) or not re.fullmatch(SELECTION_PATTERN, metric):
        rule = f"must be a split and a metric, given {shown(metric)}"
        file.report(("metric",), rule, metric_hint(str(metric)))
        return None
    if metric.startswith("val/") and without_val and infos:
        file.report(
            without_val[0].keys,
            f"is 0, so there are no validation examples for the metric {metric!r}",
            "select on test/… or train/…, or keep validation examples",
        )
    selection = resolve(metric, infos.values(), ("metric",), file, may_be_own)
    if selection is None:
        return None
    if may_be_own and any(chosen) and not _is_registered(selection.name):
        rule = f"only a training loop yields {metric}, and not all trials have one"
        file.report(("metric",), rule, f"registered: {', '.join(_all_metrics())}")
    return _with_direction(selection, file)


def _with_direction(selection: Selection, file: ExperimentFile) -> Selection | None:
    """Returns a metric with the direction that the file gives. Reports one that is not known, or
    another than that of a registered metric."""
    given: Any = file.values.get("direction")
    if given not in get_args(Direction):
        if given is None and not _is_registered(selection.name):
            rule = f"no metric {selection.name!r} is registered, so its direction is not known"
            file.report(("metric",), rule, "write direction: max, or direction: min, beside it")
        return selection
    if _is_registered(selection.name) and given != selection.direction:
        better = "higher" if selection.direction == "max" else "lower"
        file.report(
            ("direction",), f"{better} values of {selection.metric} are better", "remove it"
        )
    return replace(selection, direction=given)


def _is_registered(name: str) -> bool:
    return name == LOSS or name in _all_metrics()


def resolve(
    metric: str,
    infos: Iterable[DataInfo],
    keys: Keys,
    file: ExperimentFile,
    may_be_own: bool = False,
) -> Selection | None:
    """Returns the metric of a name like "val/accuracy"; None after reporting that it is unknown, or
    that it is not defined for a data set.

    may_be_own: whether a training loop may yield it under a name that is not registered. Its
        direction is then that of the file.
    """
    split, _, name = metric.partition("/")
    if name == LOSS:
        return Selection(metric, None, "min")
    if may_be_own and not _is_registered(name):
        return Selection(metric, None, "max")
    component = _find(name, keys, file, prefix=f"{split}/")
    if component is None:
        return None
    if not all(check_fit(component, info, keys, file, prefix=f"{split}/") for info in infos):
        return None
    return Selection(metric, component, component.direction)


def _find(name: str, keys: Keys, file: ExperimentFile, prefix: str = "") -> Metric | None:
    try:
        refer("metrics", name)
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
    rule = f"metric {metric.name!r} does not fit {_a_data_set(info)}"
    if info.task in metric.tasks:
        classes = info.classes
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
) -> dict[Indices, FieldValue]:
    """Returns the metrics recorded at each evaluation: those that the file lists, or else those of
    the data set's task; and always the selection metric. They stand by position on the axes of
    the list, or else of the data set.

    The names are sorted, as their order is no part of a trial.
    """
    always = [] if selection is None or selection.component is None else [selection.name]
    values: dict[Indices, FieldValue] = {}
    names: Iterable[str]
    keys: Keys = ("trial", "metrics")
    for indices, value in (listed or dataset).values.items():
        if listed is None:
            names = _defaults(infos[value]) if value in infos else []
        elif value.valid and _names_are_valid(value, file):
            names, keys = value.value, value.keys
        else:
            values[indices] = REPORTED
            continue
        recorded = tuple(sorted({*names, *always}))
        values[indices] = FieldValue(recorded, list(recorded), keys)
    return values


def _names_are_valid(names: FieldValue, file: ExperimentFile) -> bool:
    if names.value is None:
        file.report(names.keys, "must be a list, given null")
        return False
    metrics = [_find(name, (*names.keys, i), file) for i, name in enumerate(names.value)]
    repeated = sorted({name for name in names.value if names.value.count(name) > 1})
    for name in repeated:
        file.report(names.keys, f"{name!r} is given twice")
    return None not in metrics and not repeated
