"""All configs in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.core.text import plural
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.numbers import MISSING
from harness.report.rows import Layout, Row, rows_of, seeds_cell, spread_cells
from harness.report.section import Section

FEWER = "* fewer seeds than other configs: their means are not of the same seeds."
DIVERGED_LAST = (
    "A trial that diverged counts as worse than any value: configs rank by the part of their "
    "finished trials that diverged, then by the mean of the others."
)


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """rows: ranked within each task. left_out: rows beyond `--top`."""

    metric: str
    test: str | None
    rows: tuple[Row, ...]
    left_out: int


def record(comparison: Comparison) -> Leaderboard:
    rows = rows_of(comparison.configs, comparison.shown)
    kept = [
        row
        for task in comparison.tasks
        for row in [row for row in rows if row.task == task][: comparison.question.top]
    ]
    score = comparison.score
    return Leaderboard(score.metric, score.test, tuple(kept), len(rows) - len(kept))


def blocks(board: Leaderboard) -> tuple[Block, ...]:
    tasks = dict.fromkeys(row.task for row in board.rows)
    tables = [_table(board, [row for row in board.rows if row.task == task]) for task in tasks]
    notes = []
    if board.left_out:
        notes.append(f"{plural(board.left_out, 'config')} more: --top 0 shows all.")
    if any(row.fewer for row in board.rows):
        notes.append(FEWER)
    if any(row.diverged for row in board.rows):
        notes.append(DIVERGED_LAST)
    return (*tables, *(Paragraph(note) for note in notes))


def _table(board: Leaderboard, rows: Sequence[Row]) -> Table:
    layout = Layout(rows)
    noted = any(_note(row) for row in rows)
    columns = [Column("#", numeric=True), *layout.columns()]
    columns += [Column(board.metric, numeric=True), Column("n", numeric=True)]
    columns += [Column(board.test, numeric=True)] if board.test else []
    columns += [Column("note", remark=True)] if noted else []
    cells = []
    for row, (score, test) in zip(rows, spread_cells(rows), strict=True):
        line = [MISSING if row.rank is None else str(row.rank), *layout.cells(row)]
        line += [score, seeds_cell(row)]
        line += [test] if board.test else []
        line += [_note(row)] if noted else []
        cells.append(tuple(line))
    return Table(tuple(columns), tuple(cells), caption=rows[0].task)


def _note(row: Row) -> str:
    """What became of trials without a value; divergence, which is a result, as a rate."""
    told = [f"{row.divergence:.0%} diverged"] if row.diverged else []
    counts = (("failed", row.failed), ("interrupted", row.interrupted), ("running", row.running))
    return ", ".join((*told, *(f"{n} {outcome}" for outcome, n in counts if n)))


SECTION = Section(
    name="leaderboard", title="Configs", place=20, record=record, blocks=blocks, brief=True
)
