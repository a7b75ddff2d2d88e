"""Everything that each trial field may be, and what is known of the data sets behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from harness.components.base import DataInfo, Loss, Task
from harness.components.registry import components
from harness.core.errors import InputError, Problem
from harness.experiment.grid import Cell, Factor
from harness.experiment.reading.components import Reference
from harness.experiment.reading.document import Document, Faults
from harness.experiment.reading.factors import Base, Given, base_of, component_factor, plain_factor
from harness.experiment.reading.selection import LOSS, Infos, Selection, metrics_factor, select
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import COMPONENT_FIELDS, TRIAL_FIELDS


@dataclass(frozen=True, slots=True)
class Space:
    """factors: by trial field, in the fields' order. bases: of the fields that hold a component.
    infos: what is known of each data set. selection: None where a fault is reported instead."""

    factors: Mapping[str, Factor]
    bases: Mapping[str, Base]
    infos: Infos
    selection: Selection | None

    def always_recorded(self) -> frozenset[str]:
        """The measures that every trial records at each evaluation."""
        cells = self.factors["metrics"].cells.values()
        return frozenset.intersection(*(frozenset({LOSS, *(c.value or ())}) for c in cells))


def build_space(source: Document, given: Given, data_root: Path, faults: Faults) -> Space:
    """Works out all fields, the data set first: the default loss and metrics are its task's."""
    plain = [name for name in TRIAL_FIELDS if name not in {*COMPONENT_FIELDS, "metrics"}]
    factors = {name: plain_factor(name, given, faults) for name in plain}
    bases = {name: base_of(name, given, faults) for name in COMPONENT_FIELDS if name != "loss"}
    for name, base in bases.items():
        factors[name] = component_factor(name, base, given, faults)
    dataset = factors["dataset"]
    infos = _infos(source, dataset, data_root, faults)
    by_task = "loss" not in given.fixed and "loss" not in given.axes
    bases["loss"] = _default_losses(dataset, infos) if by_task else base_of("loss", given, faults)
    factors["loss"] = component_factor("loss", bases["loss"], given, faults)
    selection = select(source, infos, factors["val_fraction"], faults)
    factors["metrics"] = metrics_factor(given, dataset, infos, selection, faults)
    return Space({name: factors[name] for name in TRIAL_FIELDS}, bases, infos, selection)


def _infos(
    source: Document, dataset: Factor, data_root: Path, faults: Faults
) -> dict[Cell, DataInfo]:
    infos: dict[Cell, DataInfo] = {}
    for cell in dataset.cells.values():
        if not cell.sound:
            continue
        try:
            infos[cell] = cell.value.component.info(cell.value.options, data_root)
        except InputError as error:
            for problem in error.problems:
                faults.take(_place(source, cell, problem), InputError(problem))
    return infos


def _place(source: Document, cell: Cell, problem: Problem) -> Keys:
    """Where the option was given that the problem names ("target: no column"), beside the data
    set or apart from it; else where the data set was."""
    for option in type(cell.value.options).model_fields:
        if f": {option}: " in f": {problem.what}":
            apart = f"dataset.{option}"
            for keys in ((*cell.keys, option), ("grid", apart), ("trial", apart)):
                if source.holds(keys):
                    return keys
    return cell.keys


def _default_losses(dataset: Factor, infos: Infos) -> Base:
    """The default loss of each data set's task."""
    references: dict[tuple[int, ...], Reference | None] = {}
    for key, cell in dataset.cells.items():
        info = infos.get(cell)
        references[key] = None if info is None else _default_loss(info.task)
    return Base(dataset.axes, references, own=False)


def _default_loss(task: Task) -> Reference:
    losses = cast("Mapping[str, Loss]", components("losses")).values()
    default = next(loss for loss in losses if task in loss.default_for)
    return Reference(default, {}, ("trial", "loss"))
