"""Which axis mattered: the part that each has in the scores' variance."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.importance import FEWEST, Importance, importance
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Bars, Figure
from harness.report.section import Section, of_points, points_of


@dataclass(frozen=True, slots=True)
class Axes:
    """One importance for each data set with enough configs. left_out: configs without a score.
    tried: a search's points, which it speaks of; 0 where it speaks of the compared trials."""

    metric: str
    tasks: tuple[Importance, ...]
    left_out: int
    insufficient: str
    tried: int


def record(comparison: Comparison) -> Axes | None:
    tried = points_of(comparison)
    comparison = comparison.explored
    if len(comparison.shown) < 2:
        return None
    generator = comparison.generator("importance")
    found = []
    for task in comparison.tasks:
        configs = [c for c in comparison.configs if c.task == task and c.mean is not None]
        labels = pd.DataFrame([c.labels for c in configs])
        varying = [
            name for name in comparison.shown if name in labels and labels[name].nunique() > 1
        ]
        made = importance(
            task, labels[varying], [c.mean for c in configs if c.mean is not None], generator
        )
        if made is not None:
            found.append(made)
    left_out = sum(config.mean is None for config in comparison.configs)
    few = "" if found else f"fewer than {FEWEST} configs with different scores on a data set"
    return Axes(comparison.score.metric, tuple(found), left_out, few, tried)


def blocks(axes: Axes) -> tuple[Block, ...]:
    if axes.insufficient:
        return (Paragraph(f"Insufficient data: {axes.insufficient}."),)
    told = Paragraph(
        f"Part of the variance of {axes.metric} between configs that an axis has a hand in, alone "
        "or with others (total effects on a random forest); a pair's is what needs both. "
        "Explained: of configs that the forest has not seen."
    )
    notes = []
    if axes.left_out:
        notes.append(Paragraph(f"Without a score, and left out: {axes.left_out} configs."))
    tables = (_table(found) for found in axes.tasks)
    return (*of_points(axes.tried), told, *tables, *notes)


def figures(axes: Axes) -> tuple[Figure, ...]:
    return tuple(
        Bars(
            title=f"Which axis mattered{f': {found.task}' if found.task else ''}",
            x="part of the variance",
            bars=tuple((axis.name, axis.share) for axis in found.axes)
            + tuple(
                (f"{both.first} × {both.second}", both.share)
                for both in found.interactions
                if both.share >= 0.01
            ),
        )
        for found in axes.tasks
    )


def _table(found: Importance) -> Table:
    rows = [(axis.name, f"{axis.share:.0%}") for axis in found.axes]
    rows += [(f"{b.first} × {b.second}", f"{b.share:.0%}") for b in found.interactions]
    caption = f"{found.n} configs, {max(found.explained, 0):.0%} explained"
    title = f"{found.task}: {caption}" if found.task else caption
    return Table((Column("axis"), Column("part", numeric=True)), tuple(rows), caption=title)


SECTION = Section(
    name="importance",
    title="Which axis mattered",
    place=90,
    record=record,
    blocks=blocks,
    figures=figures,
)
