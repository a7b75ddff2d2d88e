"""Reads the skip rules, and reports those that leave nothing out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.experiment.experiment import Dimension, NumericDimension, Search
from harness.experiment.fields import SkipFields, split
from harness.experiment.grid import Grid, SkipRule, enumerate_grid, matches
from harness.experiment.reading.components import check_condition
from harness.experiment.reading.file import ExperimentFile
from harness.experiment.reading.trial_fields import ReadFields, searched_space
from harness.experiment.reading.validation import read_list, validate_mapping
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import plain

Placed = Sequence[tuple[SkipRule, Keys]]
"""Rules, each with its place."""


def read_rules(file: ExperimentFile, read: ReadFields) -> Placed:
    """Returns the valid skip rules. Reports the others."""
    chosen = read.chosen()
    rules = []
    for position, item in enumerate(read_list(file, "skip")):
        keys: Keys = ("skip", position)
        values = validate_mapping(SkipFields, item, keys, file)
        if values is not None and check_condition(values["when"], (*keys, "when"), chosen, file):
            rules.append((SkipRule(values["when"], values["because"]), keys))
    return rules


def check_rules(
    file: ExperimentFile,
    read: ReadFields,
    placed: Placed,
    grid: Grid,
    counts: Sequence[int],
    search: Search | None,
) -> None:
    """Reports rules that leave out neither a combination of the grid nor a point of the search, and
    rules that leave nothing to run. counts: how many combinations each rule matches."""
    for (rule, keys), count in zip(placed, counts, strict=True):
        if count or _says_no_more(rule, file, read) or _leaves_out_points(rule, grid, search):
            continue
        where = " or of the search space" if search else ""
        hint = "correct it, or take it out"
        file.report(keys, f"matches no combination of the grid{where}", hint)
    if not grid.combinations and not file.has_problems and search is None:
        file.report_text(("skip",), "every combination is skipped: nothing is left to run")


def _says_no_more(rule: SkipRule, file: ExperimentFile, read: ReadFields) -> bool:
    """Whether an override narrowed a field of the rule, or a field of it has another problem, which
    says more."""
    roots = {name.partition(".")[0] for name in rule.when}
    searched = {split(name)[0] for name in searched_space(file)}
    return (file.has_problems and bool(roots & searched)) or any(
        file.overridden(root)
        or any(
            not value.valid and not value.problems for value in read.fields[root].values.values()
        )
        for root in roots
    )


def _leaves_out_points(rule: SkipRule, grid: Grid, search: Search | None) -> bool:
    """Whether a rule may match a point of the search space."""
    if search is None:
        return False
    dimensions = {dimension.field: dimension for dimension in search.space}
    searched = search.varied(rule.when)
    if not all(_may_match(name, rule.when[name], dimensions) for name in searched):
        return False
    fixed = {name: wanted for name, wanted in rule.when.items() if name not in searched}
    rules = [SkipRule(fixed, "")]
    return bool(enumerate_grid(grid.axes, grid.parts, grid.fields, rules)[1][0])


def _may_match(name: str, wanted: Any, dimensions: Mapping[str, Dimension]) -> bool:
    """Whether a condition on a searched field holds of some value of its dimension."""
    root, option = split(name)
    dimension = dimensions.get(name) or dimensions.get(root)
    if dimension is None:
        return True  # it names options of which some are searched
    if isinstance(dimension, NumericDimension):
        alternatives = wanted if isinstance(wanted, list) else [wanted]
        return any(map(dimension.contains, alternatives))
    values = map(plain, dimension.values)
    is_option = bool(option) and name in dimensions
    if not option:
        wanted = _without(wanted, {n for of, n in map(split, dimensions) if of == root})
    return any(matches({name: wanted}, {root: {option: v} if is_option else v}) for v in values)


def _without(wanted: Any, options: set[str]) -> Any:
    """Returns a condition on a component without some of its options, which are searched."""
    if isinstance(wanted, list):
        return [_without(item, options) for item in wanted]
    if not isinstance(wanted, Mapping):
        return wanted
    return {name: value for name, value in wanted.items() if name not in options}
