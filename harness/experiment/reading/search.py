"""Reads the `search:` block: the space, its studies and their budget."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any, Final

from pydantic import ValidationError

from harness.components.base import Options
from harness.core.errors import closest, did_you_mean
from harness.experiment.experiment import (
    COSTS,
    PARAMETERS,
    Dimension,
    KnownPoint,
    Method,
    Objective,
    Search,
)
from harness.experiment.fields import (
    PRUNERS,
    SAMPLERS,
    SELECTION_PATTERN,
    WILCOXON_MIN_PAIRS,
    SearchFields,
    is_known,
    split,
)
from harness.experiment.reading.components import Entry, Selection, check_condition, resolve
from harness.experiment.reading.file import ExperimentFile
from harness.experiment.reading.hints import field_hint, metric_hint
from harness.experiment.reading.search_space import SpaceReader
from harness.experiment.reading.trial_fields import MAX_COMBINATIONS, ReadFields
from harness.experiment.reading.validation import (
    INVALID,
    option_messages,
    shown,
    validate_entries,
)
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import COMPONENT_FIELDS, NOT_IN_CONFIG_ID, Choice

DEFAULT_TRIALS: Final = 20


def read_search(file: ExperimentFile, read: ReadFields) -> Search | None:
    """Returns the validated block; None without a block, or after reporting its problems."""
    block = file.values.get("search")
    if not isinstance(block, Mapping):
        return None  # absent, or reported with the top level
    values = {name: info.default for name, info in SearchFields.model_fields.items()}
    values |= validate_entries(SearchFields, block, ("search",), file)
    if INVALID in values.values() or read.selection is None:
        return None
    reader = SpaceReader(file, read)
    return _SearchBlock(values, file, read, reader).search(read.selection)


@dataclass(slots=True)
class _SearchBlock:
    """The block with each value valid by itself, among everything else that the file says."""

    values: dict[str, Any]
    file: ExperimentFile
    read: ReadFields
    reader: SpaceReader

    def search(self, selection: Selection) -> Search | None:
        self.check_per()
        dimensions = self.dimensions()
        trials, minutes = self.values["trials"], self.values["minutes"]
        several = len(self.read.entries.grids) > 1
        search = Search(
            per=self.values["per"],
            space=dimensions,
            sub_grid_axes=tuple(self.searched_axes()) if several else (),
            only_searched=self.read.entries.only_searched(),
            known=self.known({dimension.field: dimension for dimension in dimensions}),
            trials=DEFAULT_TRIALS if trials is None and minutes is None else trials,
            minutes=minutes,
            patience=self.values["patience"],
            seeds=self.seeds(),
            objectives=self.objectives(selection),
            sampler=self.method("sampler", SAMPLERS),
            pruner=self.method("pruner", PRUNERS),
            seed=self.values["seed"],
            retrain_seeds=self.values["retrain_seeds"],
            storage=self.values["storage"],
        )
        if not self.file.has_problems:
            self.check_pruner(search)
            self.check_sampler(search)
        return None if self.file.has_problems else search

    def report(self, keys: Keys, rule: str, hint: str = "") -> None:
        self.file.report(("search", *keys), rule, hint)

    def check_per(self) -> None:
        per: tuple[str, ...] = self.values["per"]
        for position, name in enumerate(per):
            keys: Keys = ("per", position)
            if not is_known(name):
                self.report(keys, f"unknown field {name!r}", field_hint(name))
            elif name in self.values["space"]:
                self.report(keys, f"{name} is in space too", "keep one of the two")
            elif name in per[:position]:
                self.report(keys, f"{name!r} is given twice")
            elif name in NOT_IN_CONFIG_ID:
                self.report(keys, "a study for each seed would compare luck", "leave it in grid")

    def dimensions(self) -> tuple[Dimension, ...]:
        """Returns what `space` names, and the axes of the grid that nothing else names."""
        dimensions: dict[str, Dimension | None] = {}
        for name, entries in self.searched_axes().items():
            if axis := self.reader.axis(name, entries):  # several sub-grids may hold the same value
                values = {repr(value): value for value in axis.values}
                dimensions[name] = replace(axis, values=tuple(values.values()))
        for name, value in self.values["space"].items():
            dimensions[name] = self.reader.dimension(name, value, ("search", "space", name))
        if not dimensions and not self.file.has_problems:
            self.report(("space",), "names nothing to search")
        valid = [dimension for dimension in dimensions.values() if dimension is not None]
        # Components first, then their options, then all others.
        return tuple(
            sorted(valid, key=lambda d: (d.field not in COMPONENT_FIELDS, "." not in d.field))
        )

    def searched_axes(self) -> dict[str, list[Entry]]:
        """Returns the axes of the grid that are searched, with what sub-grids without one have."""
        entries = self.read.entries
        others = {*self.values["per"], *NOT_IN_CONFIG_ID, *self.values["space"]}
        return {
            name: [*axis, *([entries.elsewhere[name]] if name in entries.elsewhere else [])]
            for name, axis in entries.axes.items()
            if name not in others
        }

    def seeds(self) -> tuple[int, ...]:
        """Returns the seeds of each point. Reports sub-grids that differ in them."""
        field = self.read.fields["seed"]
        of_grids = [[field.of(at) for at in product(*part)] for part in self.read.entries.parts()]
        seeds = [tuple(dict.fromkeys(c.value for c in cells if c.valid)) for cells in of_grids]
        for cells, given in zip(of_grids, seeds, strict=True):
            if set(given) != set(seeds[0]) and all(cell.valid for cell in cells):
                rule = "a search trains each point on the same seeds, and these are others than "
                self.file.report(cells[0].keys, rule + f"the first grid's: {shown(seeds[0])}")
        return seeds[0]

    def known(self, dimensions: Mapping[str, Dimension]) -> tuple[KnownPoint, ...]:
        points = []
        for position, item in enumerate(self.values["known"]):
            keys: Keys = ("known", position)
            if not isinstance(item, Mapping):
                self.report(keys, f"must be a mapping of fields, given {shown(item)}")
                continue
            where = {name: value for name, value in item.items() if name in self.values["per"]}
            check_condition(where, ("search", *keys), self.read.chosen(), self.file)
            point = {
                name: self.known_value(dimensions, name, value, (*keys, name))
                for name, value in item.items()
                if name not in where
            }
            if not point:
                self.report(keys, "gives no value to a field that is searched")
            self.check_known_options(keys, point, where)
            points.append(KnownPoint(where, point))
        return tuple(points)

    def check_known_options(
        self, keys: Keys, point: Mapping[str, Any], where: Mapping[str, Any]
    ) -> None:
        """Reports options that the components of a known point do not have."""
        for name in point:
            root, option = split(name)
            choice = point.get(root)
            if option and isinstance(where.get(root), str):
                choice = self.reader.value(root, where[root], ("search", *keys, root))
            known = choice.component.options.model_fields if isinstance(choice, Choice) else ()
            if option and isinstance(choice, Choice) and option not in known:
                self.report((*keys, name), f"{choice.name} has no option {option!r}")

    def known_value(
        self, dimensions: Mapping[str, Dimension], name: str, value: Any, keys: Keys
    ) -> Any:
        """Returns one value of a known point, which must lie in the space."""
        if name not in dimensions:
            if name not in self.values["space"]:  # else its problem is reported there
                hint = did_you_mean(name, {*self.values["per"], *dimensions})
                self.report(keys, "is neither searched nor in per", hint)
            return INVALID
        validated = self.reader.value(name, value, ("search", *keys))
        if validated is not INVALID and not dimensions[name].contains(validated):
            self.report(keys, f"{shown(value)} lies outside the space {dimensions[name]}")
        return validated

    def objectives(self, selection: Selection) -> tuple[Objective, ...]:
        objectives = [Objective(selection.metric, selection.direction)]
        for position, name in enumerate(self.values["also"]):
            keys: Keys = ("also", position)
            if name in {objective.metric for objective in objectives}:
                self.report(keys, f"{name!r} is an objective already")
            elif name == PARAMETERS and self.read.has_loops:
                self.report(keys, "a training loop's parameters are not known", "leave it out")
            elif name in COSTS:
                objectives.append(Objective(name, "min"))
            elif not re.fullmatch(SELECTION_PATTERN, name):
                costs = did_you_mean(name, COSTS) if closest(name, COSTS) else ""
                hint = costs or metric_hint(name)
                self.report(keys, f"unknown objective {name!r}", hint)
            else:
                other = resolve(name, self.read.infos.values(), ("search", *keys), self.file)
                recorded = self.read.has_loops or (
                    other is not None and other.name in self.read.always_recorded()
                )
                if other is not None and not recorded:
                    hint = f"add {other.name} to trial.metrics"
                    self.report(keys, f"{name} is not recorded at each evaluation", hint)
                if other is not None:
                    objectives.append(Objective(other.metric, other.direction))
        return tuple(objectives)

    def method(self, what: str, methods: Mapping[str, type[Options]]) -> Method:
        """Reads a sampler or pruner: its name, or a mapping of `name` and options."""
        value = self.values[what]
        options = {} if isinstance(value, str) else dict(value)
        name = value if isinstance(value, str) else options.pop("name", None)
        if name not in methods:
            keys = (what,) if isinstance(value, str) else (what, "name")
            self.report(keys, f"no {what} {shown(name)}", did_you_mean(str(name), methods))
            return Method("")
        try:
            return Method(name, methods[name].model_validate(options).model_dump(exclude_none=True))
        except ValidationError as error:
            for message in option_messages(error, methods[name], f"{what} {name!r}"):
                self.report((what, *message.at), message.rule, message.hint)
            return Method("")

    def check_pruner(self, search: Search) -> None:
        pruner, seeds = search.pruner.name, len(search.seeds)
        if pruner != "none" and len(search.objectives) > 1:
            self.report(("pruner",), f"{pruner} takes one objective", "use none")
        elif pruner == "wilcoxon" and seeds <= WILCOXON_MIN_PAIRS:
            rule = f"wilcoxon prunes nothing before {WILCOXON_MIN_PAIRS} pairs of seeds, "
            rule += f"and each point has {seeds} seeds"
            hint = f"give more than {WILCOXON_MIN_PAIRS} seeds in grid.seed"
            self.report(("pruner",), rule, hint)
        elif pruner not in ("none", "wilcoxon") and seeds > 1:
            rule = f"{pruner} compares epochs of single trials, and each point has {seeds} seeds"
            self.report(("pruner",), rule, "use wilcoxon, which compares seeds, or one seed")

    def check_sampler(self, search: Search) -> None:
        sampler = search.sampler
        if sampler.name == "cmaes" and len(search.objectives) > 1:
            self.report(("sampler",), "cmaes takes one objective", "use nsga2 or tpe")
        if sampler.options.get("group") and not sampler.options.get("multivariate"):
            self.report(("sampler", "group"), "needs multivariate: true")
        if sampler.name != "grid":
            return
        counts = {dimension.field: dimension.size for dimension in search.space}
        for name, count in counts.items():
            if count is None:
                rule = "the sampler grid needs lists or steps, not a continuous range"
                self.report(("space", name), rule, "give a step, or a list")
        size = prod(count or 0 for count in counts.values())
        if search.trials is not None and None not in counts.values() and search.trials > size:
            rule = f"the grid has {size} points, fewer than the {search.trials} trials"
            self.report(("sampler",), rule, f"set trials: {size}")
        elif size > MAX_COMBINATIONS:
            rule = f"the grid has {size} points; at most {MAX_COMBINATIONS} are allowed"
            self.report(("sampler",), rule, "use random, or wider steps")
