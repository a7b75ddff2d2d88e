"""The best learning rate of each optimizer, or the best config of whatever `--by` names."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import STUDY, Comparison
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.rows import Layout, Row, rows_of, seeds_cell, spread_cells
from harness.report.section import Section

AT_THE_EDGE = (
    "Where the best lr is the lowest or highest that was tried, a better one may lie outside: "
    "widen the grid."
)


@dataclass(frozen=True, slots=True)
class Best:
    """The best config of a group. tried: the group's learning rates. edge: of the best among them
    ("lowest", "highest", "only" or empty). tied: other configs that are as good."""

    row: Row
    tried: tuple[str, ...]
    edge: str
    tied: int


@dataclass(frozen=True, slots=True)
class BestOfEach:
    """Chosen on `metric`; `test` stands beside. rates_differ: whether several learning rates were
    tried at all."""

    by: tuple[str, ...]
    metric: str
    test: str | None
    groups: tuple[Best, ...]
    rates_differ: bool


def record(comparison: Comparison) -> BestOfEach | None:
    groups = comparison.groups
    if not comparison.by or len(groups) < 2:
        return None
    if not comparison.question.by and not {"lr", "optimizer"} & set(comparison.shown):
        return None  # Nothing was tuned.
    first = (*comparison.by, *(name for name in comparison.shown if name not in comparison.by))
    fields = tuple(name for name in first if name not in ("dataset", STUDY))
    rows = rows_of([group.best for group in groups], fields)
    return BestOfEach(
        by=comparison.by,
        metric=comparison.score.metric,
        test=comparison.score.test,
        groups=tuple(
            Best(row, group.tried, group.edge, group.tied)
            for row, group in zip(rows, groups, strict=True)
        ),
        # Winners and defaults of a search say nothing of where its space ends.
        rates_differ="lr" in comparison.shown and comparison.tuning is None,
    )


def blocks(best: BestOfEach) -> tuple[Block, ...]:
    tasks = dict.fromkeys(group.row.task for group in best.groups)
    tables = [_table(best, [g for g in best.groups if g.row.task == task]) for task in tasks]
    beside = f"; {best.test} beside" if best.test else ""
    title = Paragraph(f"Of each {' and '.join(best.by)}, chosen on {best.metric}{beside}.")
    notes = []
    if best.rates_differ and any(group.edge in ("lowest", "highest") for group in best.groups):
        notes.append(AT_THE_EDGE)
    if any(group.tied for group in best.groups):
        notes.append("= others of its group are as good.")
    return (title, *tables, *(Paragraph(note) for note in notes))


def _table(best: BestOfEach, groups: list[Best]) -> Table:
    rows = [group.row for group in groups]
    layout = Layout(rows)
    columns = [*layout.columns(), Column(best.metric, numeric=True), Column("n", numeric=True)]
    columns += [Column(best.test, numeric=True)] if best.test else []
    columns += [Column("lr in grid")] if best.rates_differ else []
    cells = []
    for group, (score, test) in zip(groups, spread_cells(rows), strict=True):
        line = [*layout.cells(group.row), score]
        line += [seeds_cell(group.row) + ("=" if group.tied else "")]
        line += [test] if best.test else []
        line += [_place(group)] if best.rates_differ else []
        cells.append(tuple(line))
    return Table(tuple(columns), tuple(cells), caption=rows[0].task)


def _place(group: Best) -> str:
    return {"": "inside", "lowest": "bottom", "highest": "top"}.get(group.edge, group.edge)


SECTION = Section(
    name="best_of_each",
    title="Best learning rates",
    place=30,
    record=record,
    blocks=blocks,
    brief=True,
)
