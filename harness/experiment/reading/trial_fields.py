"""Works out what each trial field may be, from the sections `trial:` and `grid:`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, product
from math import prod
from pathlib import Path
from typing import Any, Final, TypeVar, cast

from harness.components.base import ABSENT, NONE, DataInfo, Loss
from harness.components.registry import components
from harness.core.errors import DataMissing, InputError, Problem
from harness.core.text import format_value
from harness.experiment.fields import TrialFields, is_known, split
from harness.experiment.grid import REPORTED, Axis, FieldValue, GridField, Indices, SubGrids
from harness.experiment.reading.components import (
    Chosen,
    ComponentReference,
    DataInfos,
    Entry,
    Selection,
    find_component,
    make_choice,
    read_value,
    resolve_metrics,
    select,
)
from harness.experiment.reading.file import ExperimentFile, dotted
from harness.experiment.reading.hints import LOSS, field_hint, value_hint
from harness.experiment.reading.user_files import locate, suggest_beside
from harness.experiment.reading.validation import INVALID, shown
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    DECLARATIONS,
    NO_LR,
    TRIAL_FIELDS,
    Choice,
    is_absent,
    plain,
)

MAX_COMBINATIONS: Final = 100_000
NOTHING: Final = object()
"""Stands for a component or a learning rate that the file does not give, as it need not."""
BY_TASK: Final = {name for name, declared in DECLARATIONS.items() if declared.by_task}

T = TypeVar("T")


@dataclass(slots=True)
class TrialEntries:
    """What a file gives for the trials, by field.

    fixed: one value. axes: several, in order, those of all sub-grids one after another.
    grids: the positions of each sub-grid on the axes that it has.
    elsewhere: the value, for the sub-grids without it, of an axis that only others have. It is
        absent for options, and for fields whose default is that of the data set's task.
    """

    fixed: dict[str, Entry] = field(default_factory=dict)
    axes: dict[str, list[Entry]] = field(default_factory=dict)
    grids: list[dict[str, range]] = field(default_factory=list)
    elsewhere: dict[str, Entry] = field(default_factory=dict)

    def parts(self) -> SubGrids:
        """Returns the positions of each sub-grid on each axis."""
        return tuple(
            tuple(self._positions(name, grid) for name in self.axes) for grid in self.grids
        )

    def combinations(self, axes: Sequence[int]) -> Iterable[Indices]:
        """Returns the positions on some axes that occur together in a sub-grid."""
        names = list(self.axes)
        products = (
            product(*(self._positions(names[axis], grid) for axis in axes)) for grid in self.grids
        )
        return dict.fromkeys(chain.from_iterable(products))

    def _positions(self, name: str, grid: Mapping[str, range]) -> range:
        after = len(self.axes[name])
        return grid.get(name, range(after, after + 1))

    def in_every_grid(self, name: str) -> bool:
        """Whether each sub-grid has the axis."""
        return all(name in grid for grid in self.grids)

    def names(self, name: str) -> bool:
        """Whether the file says anything of a field."""
        return name in self.fixed or name in self.axes

    def only_searched(self) -> tuple[str, ...]:
        """Returns the fields that only the search space gives."""
        given = {**self.elsewhere, **self.fixed}
        return tuple(name for name, entry in given.items() if entry.keys[0] == "search")

    def fixed_options(self, root: str) -> dict[str, Entry]:
        """Returns the options given apart from their component, as `trial: {optimizer.eps: …}`."""
        parts = ((split(name), entry) for name, entry in self.fixed.items())
        return {option: entry for (of, option), entry in parts if of == root and option}

    def option_axes(self, root: str) -> dict[str, int]:
        """Returns the axes over an option of a component, and their positions."""
        parts = ((split(name), position) for position, name in enumerate(self.axes))
        return {option: position for (of, option), position in parts if of == root and option}


def read_entries(file: ExperimentFile) -> TrialEntries:
    """Reads `trial:` and `grid:`. Reports unknown fields, and axes that are not lists.

    Raises InputError where the grid is too large to be meant.
    """
    entries = TrialEntries()
    for name, value in file.section("trial").items():
        if (value is not None or name not in BY_TASK) and _exists(file, name, ("trial", name)):
            entries.fixed[name] = Entry(value, ("trial", name))
    grid_is_valid = _check_grid(file)
    for place, grid in file.grids():
        entries.grids.append({})
        for name, values in grid.items():
            if _exists(file, name, (*place, name)):
                _read_axis(file, entries, (*place, name), values)
    may_lack = _chooses_loop(file, entries)
    for name, info in TrialFields.model_fields.items():
        if info.is_required() and not entries.names(name):
            absent = NOTHING if may_lack else INVALID
            entries.fixed[name] = _only_searched(file, name) or Entry(absent, ("trial",))
            if entries.fixed[name].value is INVALID and grid_is_valid:
                file.report_text(("trial",), f"{name} is missing: give it in trial or in grid")
        elif (
            name in entries.axes
            and name not in {*BY_TASK, *entries.elsewhere}
            and not entries.in_every_grid(name)
        ):
            entries.elsewhere[name] = _elsewhere(file, entries, name)
    count = sum(prod(map(len, grid.values())) for grid in entries.grids)
    if count > MAX_COMBINATIONS:
        rule = f"has {count} combinations; at most {MAX_COMBINATIONS} are allowed"
        file.report(("grid",), rule)
        file.raise_problems()
    return entries


def _chooses_loop(file: ExperimentFile, entries: TrialEntries) -> bool:
    """Whether some trial may have a training loop of its own, which needs nothing else."""
    return entries.names("training_loop") or "training_loop" in searched_space(file)


def _check_grid(file: ExperimentFile) -> bool:
    """Whether `grid` is a mapping, or a list of mappings. Reports it otherwise."""
    grid = file.values.get("grid")
    if grid is not None and not isinstance(grid, (dict, list)):
        rule = f"must be a mapping of axes, or a list of such mappings, given {shown(grid)}"
        file.report(("grid",), rule)
        return False
    if grid == []:
        file.report(("grid",), "must not be an empty list", "list a mapping of axes, or remove it")
        return False
    items = enumerate(grid) if isinstance(grid, list) else ()
    others = [(place, item) for place, item in items if not isinstance(item, dict)]
    for place, item in others:
        file.report(("grid", place), f"must be a mapping of axes, given {shown(item)}")
    return not others


def _elsewhere(file: ExperimentFile, entries: TrialEntries, name: str) -> Entry:
    """Returns what a field is in the sub-grids that do not name it, though others do."""
    info = TrialFields.model_fields[name]
    if not info.is_required():
        return Entry(info.default, ("trial", name))
    if searched := _only_searched(file, name):
        return searched
    if _chooses_loop(file, entries):
        return Entry(NOTHING, ("trial", name))
    for (place, _), grid in zip(file.grids(), entries.grids, strict=True):
        if name not in grid:
            file.report(place, f"{name} is missing", f"give it in {dotted(place)} too, or in trial")
    return Entry(INVALID, ("grid",))


def _only_searched(file: ExperimentFile, name: str) -> Entry | None:
    """Returns the first value that the search space gives a field; None where it gives none."""
    keys: Keys = ("search", "space", name)
    match searched_space(file).get(name):
        case [first, *_]:
            return Entry(first, (*keys, 0))
        case {"low": low}:
            return Entry(low, (*keys, "low"))
    return None


def searched_space(file: ExperimentFile) -> Mapping[str, Any]:
    """Returns what a file has under `search.space`, not validated."""
    space = file.section("search").get("space")
    return space if isinstance(space, Mapping) else {}


def _read_axis(file: ExperimentFile, entries: TrialEntries, keys: Keys, values: Any) -> None:
    name = str(keys[-1])
    if not isinstance(values, list):
        single = "a single value belongs in trial" if len(keys) == 2 else "put it in brackets"
        hint = value_hint(values) or single
        file.report(keys, f"an axis must be a list, given {shown(values)}", hint)
    elif name in entries.fixed:
        place = file.where(("trial", name))
        file.report(keys, f"is set in trial too ({place})", "keep one of the two")
    elif not values:
        file.report(keys, "an axis must not be empty", "list its values, or remove the axis")
    given = [Entry(INVALID, keys)] if name in TRIAL_FIELDS else []
    if isinstance(values, list) and values:
        given = [Entry(value, (*keys, i)) for i, value in enumerate(values)]
    if given:
        if name in entries.fixed:
            entries.elsewhere[name] = entries.fixed.pop(name)
        axis = entries.axes.setdefault(name, [])
        entries.grids[-1][name] = range(len(axis), len(axis) + len(given))
        axis += given


def _exists(file: ExperimentFile, name: str, keys: Keys) -> bool:
    root, option = split(name)
    if is_known(name):
        return True
    if option and root in TRIAL_FIELDS:
        file.report(keys, f"{root} has no options of its own")
    else:
        file.report(keys, "unknown field", field_hint(name, TRIAL_FIELDS, str(keys[0])))
    return False


@dataclass(frozen=True, slots=True)
class NamedComponents:
    """The components that a field may hold, before options given apart from them are added.

    axes: positions of the axes that choose among them.
    """

    axes: tuple[int, ...]
    references: Mapping[Indices, ComponentReference | None]


@dataclass(frozen=True, slots=True)
class ReadFields:
    """All trial fields of a file.

    fields: in the order of their declaration.
    components: of the fields that hold a component.
    searched: the components that the search space lists, by field.
    infos: the metadata of each data set.
    selection: the metric that trials are selected on; None where a problem is reported instead.
    """

    entries: TrialEntries
    fields: Mapping[str, GridField]
    components: Mapping[str, NamedComponents]
    searched: Mapping[str, Sequence[ComponentReference]]
    infos: DataInfos
    selection: Selection | None

    def chosen(self) -> Chosen:
        """Returns the components that are valid in some combination, or in the search space."""
        values = {name: self.fields[name].values.values() for name in COMPONENT_FIELDS}
        return {
            name: [v.value.component for v in values[name] if isinstance(v.value, Choice)]
            + [reference.component for reference in self.searched.get(name, ())]
            for name in COMPONENT_FIELDS
        }

    def owners(self, root: str, option: str) -> list[ComponentReference]:
        """Returns the components with an option that a search may choose for a field."""
        named = self.components[root].references.values()
        candidates = self.searched.get(root) or filter(None, named)
        return [c for c in candidates if option in c.component.options.model_fields]

    @property
    def has_loops(self) -> bool:
        """Whether some trial may have a training loop of its own, which yields what it will."""
        values = self.fields["training_loop"].values.values()
        return "training_loop" in self.searched or not all(
            is_absent("training_loop", value.value) for value in values
        )

    def always_recorded(self) -> frozenset[str]:
        """Returns the measures that every trial records at each evaluation."""
        values = self.fields["metrics"].values.values()
        return frozenset.intersection(*(frozenset({LOSS, *(v.value or ())}) for v in values))


def read_fields(file: ExperimentFile, entries: TrialEntries, data_root: Path) -> ReadFields:
    """Works out all fields, the data set first: the default loss and metrics are its task's."""
    builder = _FieldBuilder(file, entries)
    fields = {
        name: builder.plain_field(name)
        for name in TRIAL_FIELDS
        if name not in COMPONENT_FIELDS and (name != "metrics" or entries.names(name))
    }
    named = {name: builder.named(name) for name in COMPONENT_FIELDS if name != "loss"}
    for name, components_of_field in named.items():
        fields[name] = builder.component_field(name, components_of_field)
    dataset = fields["dataset"]
    infos = _data_infos(file, dataset, data_root)
    named["loss"] = NamedComponents(
        *builder.with_default(
            "loss",
            lambda: builder.named("loss").references,
            lambda: _default_losses(dataset, infos),
            dataset.axes,
        )
    )
    fields["loss"] = builder.component_field("loss", named["loss"])
    selection = select(file, infos, fields["val_fraction"], fields["training_loop"])
    listed = fields.get("metrics")
    fields["metrics"] = GridField(
        "metrics",
        *builder.with_default(
            "metrics",
            lambda: resolve_metrics(listed, dataset, infos, selection, file),
            lambda: resolve_metrics(None, dataset, infos, selection, file),
            dataset.axes,
        ),
    )
    ordered = {name: fields[name] for name in TRIAL_FIELDS}
    return ReadFields(entries, ordered, named, _searched_components(file), infos, selection)


def _searched_components(file: ExperimentFile) -> dict[str, list[ComponentReference]]:
    """Returns the components that the search space lists. Reports those that do not exist."""
    searched = {}
    for name, values in searched_space(file).items():
        if name in COMPONENT_FIELDS and isinstance(values, list):
            places: list[Keys] = [("search", "space", name, i) for i in range(len(values))]
            found = map(partial(find_component, name, file=file), values, places)
            searched[name] = list(filter(None, found))
    return searched


@dataclass(slots=True)
class _FieldBuilder:
    """Builds one field at a time from the file's entries."""

    file: ExperimentFile
    entries: TrialEntries

    def sources(self, name: str) -> tuple[tuple[int, ...], dict[Indices, Entry]]:
        """Returns what the file gives for a field, or its default, by the position on its axis."""
        if name in self.entries.axes:
            position = list(self.entries.axes).index(name)
            given = dict(enumerate(self.entries.axes[name]))
            if name in self.entries.elsewhere:
                given[len(given)] = self.entries.elsewhere[name]
            return (position,), {(i,): entry for i, entry in given.items()}
        default = Entry(TrialFields.model_fields[name].default, ("trial", name))
        return (), {(): self.entries.fixed.get(name, default)}

    def with_default(
        self,
        name: str,
        given: Callable[[], Mapping[Indices, T]],
        default: Callable[[], Mapping[Indices, T]],
        default_axes: Indices,
    ) -> tuple[Indices, Mapping[Indices, T]]:
        """Returns the axes of a field whose default is the task's, and its content by position on
        them: what the file gives, and the default in the sub-grids where it gives nothing."""
        if not self.entries.names(name):
            return default_axes, default()
        axes = self.sources(name)[0]
        if self.entries.in_every_grid(name) or name in self.entries.fixed:
            return axes, given()
        of_given, of_default = given(), default()
        axes = (*axes, *default_axes)
        places = self.entries.combinations(axes)
        return axes, {
            at: of_given[at[:1]] if at[:1] in of_given else of_default[at[1:]] for at in places
        }

    def plain_field(self, name: str) -> GridField:
        """Builds a field that holds no component, or a list of them."""
        axes, sources = self.sources(name)
        values = {indices: self.plain_value(name, entry) for indices, entry in sources.items()}
        built = GridField(name, axes, values)
        self.refuse_duplicates(built)
        return built

    def plain_value(self, name: str, entry: Entry) -> FieldValue:
        if entry.value is INVALID:
            return REPORTED
        if entry.value is NOTHING:
            return FieldValue(NO_LR, NO_LR, entry.keys)
        value = read_value(name, entry.value, entry.keys, self.file)
        return REPORTED if value is INVALID else FieldValue(value, plain(value), entry.keys)

    def named(self, name: str) -> NamedComponents:
        """Returns the components that the file names for a field, or the field's default."""
        axes, sources = self.sources(name)
        references = {
            indices: None
            if entry.value is INVALID
            else find_component(
                name, NONE if entry.value is NOTHING else entry.value, entry.keys, self.file
            )
            for indices, entry in sources.items()
        }
        return NamedComponents(axes, references)

    def component_field(self, name: str, named: NamedComponents) -> GridField:
        """Builds a field that holds a component, with every combination of options given apart."""
        fixed = self.entries.fixed_options(name)
        varied = self.entries.option_axes(name)
        of_axis = list(self.entries.axes.values())
        values: dict[Indices, FieldValue] = {}
        axes = (*named.axes, *varied.values())
        for indices in self.entries.combinations(axes):
            options = dict(fixed)
            rest = indices[len(named.axes) :]
            for (option, axis), index in zip(varied.items(), rest, strict=True):
                if index < len(of_axis[axis]):
                    options[option] = of_axis[axis][index]
            reference = named.references[indices[: len(named.axes)]]
            values[indices] = self.component_value(reference, options)
        built = GridField(name, axes, values)
        self.refuse_duplicates(built)
        return built

    def component_value(
        self, reference: ComponentReference | None, options: dict[str, Entry]
    ) -> FieldValue:
        """Reports problems of the component itself. Problems of options given apart from it stay
        with the value, as a skip rule may leave the combination out."""
        if reference is None:
            return REPORTED
        problems: list[tuple[Keys, str, str]] = []
        choice = make_choice(reference, options, lambda *problem: problems.append(problem))
        if choice is not None:
            found = replace(choice, options=locate(choice.options, self.file))
            return FieldValue(found, choice.resolved(), reference.keys)
        apart = [entry.keys for entry in options.values()]
        later = []
        for problem in problems:
            keys = problem[0]
            if any(keys[: len(k)] == k for k in apart) or (apart and keys == reference.keys):
                later.append(problem)
            else:
                self.file.report(*problem)
        plain = {"name": reference.component.name, **reference.options}
        plain |= {name: entry.value for name, entry in options.items()}
        return FieldValue(None, plain, reference.keys, valid=False, problems=tuple(later))

    def refuse_duplicates(self, of_grid: GridField) -> None:
        """Reports two values of one of the field's axes that make the same trial of a sub-grid."""
        names = list(self.entries.axes)
        for place, name in enumerate(names[axis] for axis in of_grid.axes):
            if split(name)[0] != of_grid.name:
                continue  # the data set's axis, on which the task's default depends
            entries = self.entries.axes[name]
            seen: dict[Any, int] = {}
            for indices, value in of_grid.values.items():
                if not value.valid or indices[place] == len(entries):
                    continue
                rest = (indices[:place], indices[place + 1 :])
                keys = entries[indices[place]].keys
                first = seen.setdefault((keys[:-1], *rest, value.value), indices[place])
                if first != indices[place]:
                    earlier = dotted(entries[first].keys)
                    rule = f"{_short(value, name)} is given twice, first as {earlier}"
                    self.file.report(keys, rule)


def _short(value: FieldValue, name: str) -> str:
    option = split(name)[1]
    if isinstance(value.value, Choice):
        return format_value(getattr(value.value.options, option)) if option else value.value.label
    return shown(value.plain)


def _data_infos(
    file: ExperimentFile, dataset: GridField, data_root: Path
) -> dict[FieldValue, DataInfo]:
    infos: dict[FieldValue, DataInfo] = {}
    for value in dataset.values.values():
        if not value.valid or is_absent("dataset", value.value):
            continue
        try:
            infos[value] = value.value.component.info(value.value.options, data_root)
        except InputError as error:
            for problem in error.problems:
                if isinstance(error, DataMissing):
                    problem = suggest_beside(problem, value.value.options, file)
                file.report_error(_place(file, value, problem), InputError(problem))
    return infos


def _place(file: ExperimentFile, dataset: FieldValue, problem: Problem) -> Keys:
    """Returns the place of the option that the problem names ("target: no column"), beside the
    data set or apart from it; else the place of the data set."""
    for option in type(dataset.value.options).model_fields:
        if f": {option}: " in f": {problem.what}":
            apart = f"dataset.{option}"
            grids = [(*place, apart) for place, _ in file.grids()]
            for keys in ((*dataset.keys, option), *grids, ("trial", apart)):
                if file.holds(keys):
                    return keys
    return dataset.keys


def _default_losses(
    dataset: GridField, infos: DataInfos
) -> dict[Indices, ComponentReference | None]:
    """Returns the default loss of each data set's task."""
    losses = cast("Mapping[str, Loss]", components("losses")).values()
    references: dict[Indices, ComponentReference | None] = {}
    for indices, value in dataset.values.items():
        references[indices] = None
        if value.valid and is_absent("dataset", value.value):
            references[indices] = ComponentReference(ABSENT["losses"], {}, ("trial", "loss"))
        elif value in infos:
            default = next(loss for loss in losses if infos[value].task in loss.default_for)
            references[indices] = ComponentReference(default, {}, ("trial", "loss"))
    return references


def make_axes(read: ReadFields) -> tuple[Axis, ...]:
    """Returns the axes with their validated values, those of all sub-grids one after another: a
    component's without options given apart."""
    return tuple(
        Axis(name, tuple(_axis_values(read, name, position)))
        for position, name in enumerate(read.entries.axes)
    )


def distinct_values(axes: Iterable[Axis]) -> tuple[Axis, ...]:
    """Returns the axes with each value once, in whichever sub-grids it stands."""
    return tuple(
        Axis(axis.field, tuple({repr(value): value for value in axis.values}.values()))
        for axis in axes
    )


def _axis_values(read: ReadFields, name: str, position: int) -> Iterator[Any]:
    root, option = split(name)
    of_grid = read.fields[root]
    place = of_grid.axes.index(position)
    valid: dict[int, Any] = {}
    for indices, field_value in of_grid.values.items():
        if field_value.valid:
            valid.setdefault(indices[place], field_value.value)
    for index, entry in enumerate(read.entries.axes[name]):
        value = valid.get(index, entry.value)
        if isinstance(value, Choice) and option:
            value = getattr(value.options, option)
        elif isinstance(value, Choice):
            reference = read.components[root].references.get((index,))
            # A component that is valid only with options given apart is shown with them.
            value = (reference and make_choice(reference, {}, lambda *_: None)) or value
        yield value
