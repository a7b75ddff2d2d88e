"""Reads the `search:` block: the space, its studies and their budget, every fault with its line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, Final

from pydantic import ValidationError

from harness.components.base import Options
from harness.core.errors import did_you_mean
from harness.experiment.experiment import (
    COSTS,
    CategoricalDimension,
    Dimension,
    KnownPoint,
    Method,
    NumericDimension,
    Objective,
    Search,
)
from harness.experiment.fields import PAIRS, PRUNERS, SAMPLERS, SearchFields, is_known
from harness.experiment.grid import Grid
from harness.experiment.reading import messages
from harness.experiment.reading import values as checking
from harness.experiment.reading.document import Document, Faults
from harness.experiment.reading.factors import Given
from harness.experiment.reading.messages import shown
from harness.experiment.reading.rules import chosen_components, condition
from harness.experiment.reading.selection import Selection, resolve
from harness.experiment.reading.space import Space
from harness.experiment.reading.values import INVALID
from harness.experiment.reading.yaml import Keys
from harness.experiment.search.ranges import Reader
from harness.experiment.trial import COMPONENT_FIELDS, NOT_IN_CONFIG_ID, TRIAL_FIELDS

DEFAULT_TRIALS: Final = 20
HERE: Final = "search"


def read_search(
    source: Document, given: Given, space: Space, grid: Grid, faults: Faults
) -> Search | None:
    """The validated block; None where there is none, or after reporting what is wrong with it."""
    block = source.values.get(HERE)
    if not isinstance(block, Mapping):
        return None  # absent, or reported with the top level
    values = {name: field.default for name, field in SearchFields.model_fields.items()}
    values |= checking.members(SearchFields, block, (HERE,), faults)
    if INVALID in values.values() or space.selection is None:
        return None
    asked = _Block(values, source, given, space, grid, faults)
    return asked.search()


@dataclass(slots=True)
class _Block:
    """The block with each field sound by itself, among everything else that the file says."""

    values: dict[str, Any]
    source: Document
    given: Given
    space: Space
    grid: Grid
    faults: Faults

    def search(self) -> Search | None:
        per = self.per()
        dimensions = self.dimensions(per)
        trials, minutes = self.values["trials"], self.values["minutes"]
        if trials is None and minutes is None:
            trials = DEFAULT_TRIALS
        assert self.space.selection is not None  # noqa: S101 - `read_search` has looked
        search = Search(
            per=per,
            space=dimensions,
            known=self.known(per, dimensions),
            trials=trials,
            minutes=minutes,
            patience=self.values["patience"],
            seeds=self.seeds(),
            objectives=self.objectives(self.space.selection),
            sampler=self.method("sampler", SAMPLERS),
            pruner=self.method("pruner", PRUNERS),
            seed=self.values["seed"],
            retrain_seeds=self.values["retrain_seeds"],
            storage=self.values["storage"],
        )
        if self.faults:
            return None
        self.check(search)
        return None if self.faults else search

    def reader(self) -> Reader:
        chosen = chosen_components(self.space.factors)
        return Reader(self.source, self.given, self.space, chosen, self.faults)

    def per(self) -> tuple[str, ...]:
        per: tuple[str, ...] = self.values["per"]
        for position, name in enumerate(per):
            keys: Keys = (HERE, "per", position)
            if not is_known(name):
                hint = did_you_mean(name, TRIAL_FIELDS)
                self.faults.add(keys, f"unknown field {name!r}", hint)
            elif name in self.values["space"]:
                self.faults.add(keys, f"{name} is in space too", "keep one of the two")
            elif name in per[:position]:
                self.faults.add(keys, f"{name!r} is given twice")
            elif name in NOT_IN_CONFIG_ID:
                self.faults.add(keys, "a study for each seed compares luck", "leave it in grid")
        return per

    def dimensions(self, per: tuple[str, ...]) -> tuple[Dimension, ...]:
        """What `space` names, and the axes of the grid that nothing else speaks of."""
        reader = self.reader()
        found: dict[str, Dimension | None] = {
            name: reader.axis(name, options)
            for name, options in self.given.axes.items()
            if name not in {*per, *NOT_IN_CONFIG_ID, *self.values["space"]}
        }
        for name, asked in self.values["space"].items():
            found[name] = reader.dimension(name, asked, (HERE, "space", name))
        if not found and not self.faults:
            self.faults.add((HERE, "space"), "names nothing to search")
        sound = [dimension for dimension in found.values() if dimension is not None]
        return tuple(sorted(sound, key=_place))

    def seeds(self) -> tuple[int, ...]:
        cells = self.space.factors["seed"].cells.values()
        return tuple(cell.value for cell in cells if cell.sound)

    def known(self, per: tuple[str, ...], space: Iterable[Dimension]) -> tuple[KnownPoint, ...]:
        dimensions = {dimension.field: dimension for dimension in space}
        chosen = chosen_components(self.space.factors)
        reader = self.reader()
        found = []
        for position, item in enumerate(self.values["known"]):
            keys: Keys = (HERE, "known", position)
            if not isinstance(item, Mapping):
                self.faults.add(keys, f"must be a mapping of fields, given {shown(item)}")
                continue
            where = {name: value for name, value in item.items() if name in per}
            condition(where, keys, chosen, self.faults)
            point = {
                name: self.known_value(reader, dimensions, per, name, value, (*keys, name))
                for name, value in item.items()
                if name not in where
            }
            if not point:
                self.faults.add(keys, "gives no value to a field that is searched")
            found.append(KnownPoint(where, point))
        return tuple(found)

    def known_value(
        self,
        reader: Reader,
        dimensions: Mapping[str, Dimension],
        per: tuple[str, ...],
        name: str,
        given: Any,
        keys: Keys,
    ) -> Any:
        """One value of a known point, which must lie in the space."""
        if name not in dimensions:
            if name not in self.values["space"]:  # else its fault is reported there
                hint = did_you_mean(name, {*per, *dimensions})
                self.faults.add(keys, "is neither searched nor in per", hint)
            return INVALID
        value = reader.value(name, given, keys)
        if value is not INVALID and not dimensions[name].contains(value):
            self.faults.add(keys, f"{shown(given)} lies outside the space {dimensions[name]}")
        return value

    def objectives(self, selection: Selection) -> tuple[Objective, ...]:
        first = Objective(selection.metric, selection.direction)
        found = [first]
        for position, name in enumerate(self.values["also"]):
            keys: Keys = (HERE, "also", position)
            if name in {objective.metric for objective in found}:
                self.faults.add(keys, f"{name!r} is an objective already")
            elif name in COSTS:
                found.append(Objective(name, "min"))
            elif "/" not in name or name.startswith("time/"):
                hint = did_you_mean(name, (*COSTS, "val/loss"))
                self.faults.add(keys, f"unknown objective {name!r}", hint)
            else:
                found += self._measure(name, keys)
        return tuple(found)

    def _measure(self, name: str, keys: Keys) -> list[Objective]:
        read = resolve(name, self.space.infos.values(), keys, self.faults)
        if read is None:
            return []
        if read.name not in self.space.always_recorded():
            hint = f"add {read.name} to trial.metrics"
            self.faults.add(keys, f"{name} is not recorded at each evaluation", hint)
        return [Objective(read.metric, read.direction)]

    def method(self, what: str, methods: Mapping[str, type[Options]]) -> Method:
        """A sampler or pruner: its name, or a mapping of `name` and options."""
        given, keys = self.values[what], (HERE, what)
        name, options = (given, {}) if isinstance(given, str) else (given.get("name"), dict(given))
        options.pop("name", None)
        if name not in methods:
            at: Keys = keys if isinstance(given, str) else (*keys, "name")
            hint = did_you_mean(str(name), methods)
            self.faults.add(at, f"no {what} {shown(name)}", hint)
            return Method("")
        try:
            return Method(name, methods[name].model_validate(options).model_dump())
        except ValidationError as error:
            for message in messages.of_options(error, methods[name].model_fields):
                self.faults.add((*keys, *message.at), message.rule, message.hint)
            return Method("")

    def check(self, search: Search) -> None:
        """That the parts go together."""
        pruner, seeds = search.pruner.name, len(search.seeds)
        keys: Keys = (HERE, "pruner")
        if pruner != "none" and len(search.objectives) > 1:
            self.faults.add(keys, f"{pruner} cannot weigh several objectives", "use none")
        elif pruner == "wilcoxon" and seeds <= PAIRS:
            rule = f"wilcoxon cannot fire before {PAIRS} pairs, so it never would on {seeds} seeds"
            self.faults.add(keys, rule, f"give more than {PAIRS} seeds in grid.seed")
        elif pruner not in ("none", "wilcoxon") and seeds > 1:
            rule = f"{pruner} compares epochs of single trials, and each point has {seeds} seeds"
            self.faults.add(keys, rule, "use wilcoxon, which compares seeds, or one seed")
        if search.sampler.name == "cmaes" and len(search.objectives) > 1:
            self.faults.add((HERE, "sampler"), "cmaes takes one objective", "use nsga2 or tpe")
        if search.sampler.options.get("group") and not search.sampler.options["multivariate"]:
            self.faults.add((HERE, "sampler", "group"), "needs multivariate: true")
        if search.sampler.name == "grid":
            self.check_grid(search)

    def check_grid(self, search: Search) -> None:
        endless = [
            d for d in search.space if isinstance(d, NumericDimension) and not _is_counted(d)
        ]
        for dimension in endless:
            rule = "the sampler grid takes lists and steps, not a continuous range"
            self.faults.add((HERE, "space", dimension.field), rule, "give a step, or a list")
        if endless or search.trials is None:
            return
        size = prod(_count(dimension) for dimension in search.space)
        if search.trials > size:
            rule = f"the grid has {size} points, fewer than the {search.trials} trials"
            self.faults.add((HERE, "sampler"), rule, f"set trials: {size}")


def _place(dimension: Dimension) -> int:
    """Components first, then their options, then what stands alone."""
    if dimension.field in COMPONENT_FIELDS:
        return 0
    return 1 if "." in dimension.field else 2


def _is_counted(dimension: NumericDimension) -> bool:
    return not dimension.log and (dimension.integer or dimension.step is not None)


def _count(dimension: Dimension) -> int:
    if isinstance(dimension, CategoricalDimension):
        return len(dimension.values)
    return round((dimension.high - dimension.low) / (dimension.step or 1)) + 1
