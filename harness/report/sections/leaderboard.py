"""All configs in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.core.text import plural
from harness.report.blocks import Block, Column, Paragraph, ReportTable, by_task
from harness.report.config_table import (
    OWN_COLUMNS,
    ConfigRow,
    config_columns,
    config_rows,
    own_columns_of,
)
from harness.report.formatting import MISSING
from harness.report.section import Section

FEWER = "* fewer seeds than other configs: the means are not over the same seeds."
DIVERGED_LAST = (
    "A trial that diverged counts as worse than any value: configs are ranked by the share of "
    "their finished trials that diverged, then by the mean of the others."
)


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """rows: ranked within each task. left_out: rows beyond `--top`. columns: the fields that have a
    column each in a table."""

    metric: str
    test: str | None
    rows: tuple[ConfigRow, ...]
    left_out: int
    columns: tuple[str, ...] = OWN_COLUMNS


def record(comparison: Comparison) -> Leaderboard:
    rows = config_rows(comparison.configs, comparison.shown)
    top = comparison.question.top
    shown = [row for of_task in by_task(rows).values() for row in of_task[:top]]
    score = comparison.score
    columns, left_out = own_columns_of(comparison), len(rows) - len(shown)
    return Leaderboard(score.metric, score.test, tuple(shown), left_out, columns)


def blocks(board: Leaderboard) -> tuple[Block, ...]:
    tables = [_table(board, rows) for rows in by_task(board.rows).values()]
    notes = []
    if board.left_out:
        notes.append(f"{plural(board.left_out, 'config')} more: --top 0 shows all.")
    if any(row.fewer for row in board.rows):
        notes.append(FEWER)
    if any(row.diverged for row in board.rows):
        notes.append(DIVERGED_LAST)
    return (*tables, *map(Paragraph, notes))


def _table(board: Leaderboard, rows: Sequence[ConfigRow]) -> ReportTable:
    shared, cells = config_columns(rows, board.metric, board.test, board.columns)
    ranks = [MISSING if row.rank is None else str(row.rank) for row in rows]
    columns = (Column("#", numeric=True), *shared, Column("note", remark=True))
    lines = tuple((rank, *of, _note(row)) for rank, of, row in zip(ranks, cells, rows, strict=True))
    table = ReportTable(columns, lines, caption=rows[0].task)
    return table if any(map(_note, rows)) else table.without_last_column()


def _note(row: ConfigRow) -> str:
    """Counts trials without a value; divergence, which is a result, is a share."""
    notes = [f"{row.divergence:.0%} diverged"] if row.diverged else []
    counts = (("failed", row.failed), ("interrupted", row.interrupted), ("running", row.running))
    return ", ".join((*notes, *(f"{n} {outcome}" for outcome, n in counts if n)))


SECTION = Section("leaderboard", "Configs", record, blocks, order=20, brief=True)
