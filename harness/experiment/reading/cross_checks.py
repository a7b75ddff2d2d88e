"""Checks that a trial's parts go together, on each distinct pair that some kept trial has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from harness.components.base import Loss, Metric
from harness.components.registry import components, find
from harness.experiment.grid import Cell, Grid
from harness.experiment.reading.document import Faults
from harness.experiment.reading.selection import LOSS, Infos, fits, hint_for, misfit
from harness.experiment.reading.yaml import Keys

Cells = tuple[Cell, ...]
Check = Callable[[Cells, Infos, Faults], None]


def report_unusable(grid: Grid, faults: Faults) -> None:
    """Reports faults that waited to see whether a skip rule leaves their combination out."""
    for name in grid.factors:
        for (cell,) in grid.distinct([name]):
            for keys, rule, hint in cell.faults:
                faults.add(keys, rule, hint)


def cross_check(grid: Grid, infos: Infos, faults: Faults) -> None:
    """Reports parts that do not go together. Parts that are unusable by themselves are passed
    over: their faults are reported already."""
    checks: tuple[tuple[tuple[str, ...], Check], ...] = (
        (("model", "dataset"), _model_accepts),
        (("loss", "dataset"), _loss_fits),
        (("metrics", "dataset"), _metrics_fit),
        (("augment", "dataset"), _augments_images),
        (("scheduler", "metrics", "val_fraction"), _watches_what_is_recorded),
    )
    for fields, check in checks:
        for cells in grid.distinct(fields):
            if all(cell.sound for cell in cells):
                check(cells, infos, faults)


def _model_accepts(cells: Cells, infos: Infos, faults: Faults) -> None:
    model, dataset = cells
    if dataset not in infos:
        return
    reason = model.value.component.accepts(model.value.options, infos[dataset])
    if reason:
        faults.add(model.keys, f"{model.value.name} cannot take {dataset.value.name}: {reason}")


def _loss_fits(cells: Cells, infos: Infos, faults: Faults) -> None:
    loss, dataset = cells
    if dataset not in infos:
        return
    component = cast("Loss", loss.value.component)
    task = infos[dataset].task
    if task not in component.tasks:
        known = cast("Mapping[str, Loss]", components("losses"))
        hint = "allowed: " + ", ".join(name for name, other in known.items() if task in other.tasks)
        faults.add(loss.keys, f"loss {loss.value.name!r} does not fit a {task} data set", hint)


def _metrics_fit(cells: Cells, infos: Infos, faults: Faults) -> None:
    metrics, dataset = cells
    if dataset not in infos:
        return
    for name in metrics.value or ():
        metric = cast("Metric", find("metrics", name))
        if not fits(metric, infos[dataset]):
            faults.add(metrics.keys, misfit(metric, infos[dataset]), hint_for(infos[dataset]))


def _augments_images(cells: Cells, infos: Infos, faults: Faults) -> None:
    augment, dataset = cells
    if dataset in infos and augment.value and not infos[dataset].is_image:
        name = dataset.value.name
        faults.add(augment.keys, f"changes images, and {name} has none", "allowed: none")


def _watches_what_is_recorded(cells: Cells, _infos: Infos, faults: Faults) -> None:
    """A schedule that follows a metric must find it in every measurement."""
    scheduler, metrics, val_fraction = cells
    watched = getattr(scheduler.value.options, "metric", None)
    if scheduler.value.component.driven_by != "metric" or not isinstance(watched, str):
        return
    keys: Keys = (*scheduler.keys, "metric")
    split, _, name = watched.partition("/")
    recorded = [LOSS, *(metrics.value or ())]
    if split == "val" and val_fraction.value == 0:
        faults.add(keys, f"watches {watched!r}, but val_fraction is 0", "watch train/…")
    if name not in recorded:
        allowed = ", ".join(f"{split}/{each}" for each in recorded)
        hint = f"recorded: {allowed}; add it to trial.metrics"
        faults.add(keys, f"watches {watched!r}, which is not recorded", hint)
