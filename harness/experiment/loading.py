"""Reads an experiment file, with its overrides, into a validated `Experiment`.

Every fault is collected and all are reported at once; nothing runs on a file with one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from harness.core import paths
from harness.core.errors import InputError
from harness.experiment.experiment import Experiment
from harness.experiment.fields import FileFields
from harness.experiment.grid import Factor, Grid, SkipRule, enumerate_grid
from harness.experiment.reading import document
from harness.experiment.reading import values as checking
from harness.experiment.reading.components import takes_list
from harness.experiment.reading.cross_checks import cross_check, report_unusable
from harness.experiment.reading.document import Document, Faults
from harness.experiment.reading.factors import Given, axes_of, gather, too_many
from harness.experiment.reading.overrides import apply as apply_overrides
from harness.experiment.reading.rules import chosen_components, expectations, skip_rules
from harness.experiment.reading.space import Space, build_space
from harness.experiment.reading.yaml import Keys
from harness.experiment.search.block import read_search


def load(
    path: str | PathLike[str],
    overrides: Iterable[str] = (),
    data_root: Path | None = None,
) -> Experiment:
    """The experiment that a file describes, with `key=value` overrides applied.

    data_root: where data sets are described from; the data folder by default.
    Raises InputError with every fault, each with its file and line or its override.
    """
    source = document.read(Path(path))
    faults = Faults(source)
    try:
        apply_overrides(source, overrides, takes_list)
    except InputError as error:
        faults.take((), error)
    top = _top_level(source, faults)
    given = gather(source, faults)
    if too_many(given, faults):
        faults.raise_any()
    space = build_space(source, given, data_root or paths.data_root(), faults)
    grid, rules = _grid(source, space, given, faults)
    report_unusable(grid, faults)
    cross_check(grid, space.infos, faults)
    expect = expectations(
        source,
        chosen_components(space.factors),
        tuple(space.infos.values()),
        space.always_recorded(),
        faults,
    )
    search = read_search(source, given, space, grid, faults)
    faults.raise_any()
    if space.selection is None:
        raise InputError("metric: no metric is registered for this data set's task")
    return Experiment(
        name=top["name"],
        path=Path(path),
        description=top["description"].strip(),
        axes=grid.axes,
        skip=rules,
        metric=space.selection.metric,
        metric_component=space.selection.component,
        direction=space.selection.direction,
        target=top["target"],
        search=search,
        expect=expect,
        artifacts=top["artifacts"],
        grid=grid,
    )


def _top_level(source: Document, faults: Faults) -> dict[str, Any]:
    """Fields of the file itself; an empty one is as an absent one. `metric`, which depends on the
    trials, and the lists are read elsewhere."""
    elsewhere = {"metric", "skip", "expect"}
    given = {
        name: value
        for name, value in source.values.items()
        if value is not None and name not in elsewhere
    }
    values = {name: field.default for name, field in FileFields.model_fields.items()}
    values |= checking.members(FileFields, given, (), faults)
    if "name" not in given:
        keys: Keys = ("name",)
        values["name"] = checking.value(FileFields, "name", source.path.stem, keys, faults)
    return values


def _grid(
    source: Document, space: Space, given: Given, faults: Faults
) -> tuple[Grid, tuple[SkipRule, ...]]:
    """The grid without what skip rules leave out; a rule that leaves nothing out is a mistake."""
    placed = skip_rules(source, chosen_components(space.factors), faults)
    rules = tuple(rule for rule, _ in placed)
    axes = axes_of(given, space.factors, space.bases)
    grid, counts = enumerate_grid(axes, space.factors, rules)
    for (rule, keys), count in zip(placed, counts, strict=True):
        if count == 0 and not _excused(rule, source, space.factors):
            faults.add(keys, "matches no combination of the grid", "correct it, or take it out")
    if not grid.kept and not faults:
        faults.put(("skip",), "every combination is skipped: nothing is left to run")
    return grid, rules


def _excused(rule: SkipRule, source: Document, factors: Mapping[str, Factor]) -> bool:
    """Whether a rule may match nothing: an override narrowed a field of it, or a field of it has a
    fault of its own, which says more."""
    roots = {name.partition(".")[0] for name in rule.when}
    return any(
        source.overridden(root)
        or any(not cell.sound and not cell.faults for cell in factors[root].cells.values())
        for root in roots
    )
