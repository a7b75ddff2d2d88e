"""The best learning rate of each optimizer, or the best config of each value of `--by`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.configs import STUDY
from harness.report.blocks import Block, Column, Paragraph, ReportTable, by_task
from harness.report.config_table import (
    OWN_COLUMNS,
    ConfigRow,
    config_columns,
    config_rows,
    own_columns_of,
)
from harness.report.section import Section

AT_THE_EDGE = (
    "Where the best lr is the lowest or highest that was tried, a better one may lie outside: "
    "widen the grid."
)
IN_GRID = {"": "inside", "lowest": "bottom", "highest": "top", "only": "only"}


@dataclass(frozen=True, slots=True)
class Best:
    """The best config of a group (see `analysis.ranking.ConfigGroup`). tried: the group's learning
    rates. configs: how many the best was chosen among."""

    row: ConfigRow
    tried: tuple[str, ...]
    edge: str
    tied: int
    configs: int

    @property
    def task(self) -> str:
        return self.row.task


@dataclass(frozen=True, slots=True)
class BestOfEach:
    """The best configs by `metric`, with `test` beside it. rates_differ: whether several learning
    rates were tried. columns: the fields that a table shows in a column each."""

    by: tuple[str, ...]
    metric: str
    test: str | None
    groups: tuple[Best, ...]
    rates_differ: bool
    columns: tuple[str, ...] = OWN_COLUMNS


def record(comparison: Comparison) -> BestOfEach | None:
    groups = comparison.groups
    if not comparison.by or len(groups) < 2:
        return None
    if comparison.external is not None and len(groups) == len(comparison.configs):
        return None  # Nothing was tuned.
    by_default = not comparison.question.by and comparison.external is None
    if by_default and not {"lr", "optimizer"} & set(comparison.shown):
        return None
    fields = dict.fromkeys((*comparison.by, *comparison.shown))
    shown = [name for name in fields if name not in ("dataset", STUDY)]
    rows = config_rows([group.best for group in groups], shown)
    return BestOfEach(
        by=comparison.by,
        metric=comparison.score.metric,
        test=comparison.score.test,
        groups=tuple(
            Best(row, group.tried, group.edge, group.tied, group.configs)
            for row, group in zip(rows, groups, strict=True)
        ),
        # The winners and defaults of a search do not show where its space ends.
        rates_differ="lr" in comparison.shown and comparison.tuning is None,
        columns=own_columns_of(comparison),
    )


def blocks(best: BestOfEach) -> tuple[Block, ...]:
    tables = [_table(best, groups) for groups in by_task(best.groups).values()]
    test = f"; {best.test} is shown beside it" if best.test else ""
    notes = []
    if best.rates_differ and any(group.edge in ("lowest", "highest") for group in best.groups):
        notes.append(AT_THE_EDGE)
    if any(group.tied for group in best.groups):
        notes.append(
            f"= beside n: other configs of the same {' and '.join(best.by)} score as well."
        )
    unequal = [of for of in by_task(best.groups).values() if len({one.configs for one in of}) > 1]
    if unequal:
        counts = [one.configs for of in unequal for one in of]
        notes.append(
            f"Each was chosen among {min(counts)} to {max(counts)} configs: the best of more is "
            "better by chance alone. `--section budget` compares the best of equally many."
        )
    intro = f"The best of each {' and '.join(best.by)}, chosen on {best.metric}{test}."
    return (Paragraph(intro), *tables, *map(Paragraph, notes))


def _table(best: BestOfEach, groups: Sequence[Best]) -> ReportTable:
    marks = ["=" if group.tied else "" for group in groups]
    rows = [group.row for group in groups]
    shared, cells = config_columns(rows, best.metric, best.test, best.columns, marks)
    lines = tuple((*of, IN_GRID[group.edge]) for of, group in zip(cells, groups, strict=True))
    table = ReportTable((*shared, Column("lr in grid")), lines, caption=groups[0].task)
    return table if best.rates_differ else table.without_last_column()


SECTION = Section("best_of_each", "Best learning rates", record, blocks, order=30, brief=True)
