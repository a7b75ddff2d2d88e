"""A report for a terminal, and for a file or pipe in its place."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.build import Report
from harness.report.clean import clean

STYLES = {"plain": "", "claim": "bold", "caution": "yellow"}
NARROWEST = 40
NARROWEST_LABEL = 8


def for_stdout(reports: Iterable[Report]) -> str:
    """The reports for standard output: as wide as it is, 80 columns where that is not known, and
    plain where it is no terminal."""
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return terminal(reports, shutil.get_terminal_size((80, 24)).columns, color)


def terminal(reports: Iterable[Report], width: int = 80, color: bool = False) -> str:
    """The reports as text of so many columns; with colour and weight only where asked for."""
    console = Console(
        file=io.StringIO(),
        width=max(width, NARROWEST),
        force_terminal=color,
        color_system="standard" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as captured:
        for report in reports:
            console.print(Text(clean(report.experiment), style="bold underline" if color else ""))
            for part in report.parts:
                if part.section.title:
                    console.print(Text(f"\n{part.section.title}", style="bold"))
                for block in part.blocks():
                    console.print(
                        _renderable(block, console.width), crop=False, no_wrap=None, width=None
                    )
            console.print()
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _renderable(block: Block, width: int) -> Text | RichTable:
    if isinstance(block, Paragraph):
        return Text(clean(block.text), style=STYLES[block.tone])
    return _table(block, width)


def _table(block: Table, width: int) -> RichTable:
    rows = [[clean(cell) for cell in row] for row in block.rows]
    widths, gap = column_widths(block.columns, rows, width)
    table = RichTable(
        title=clean(block.caption) or None,
        title_justify="left",
        title_style="italic",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
    )
    for column, wide in zip(block.columns, widths, strict=True):
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        table.add_column(column.title, justify=justify, width=wide, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def column_widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[int], int]:
    """How wide each column is, and the gap between two: 2, or 1 where that is all there is.

    Labels are folded before figures are, which never are: a figure broken over two lines is
    misread. The widest label gives way first, none below `NARROWEST_LABEL` or its title; what is
    still too wide stays so, since a column that is not there is worse.
    """
    titles = [cell_len(column.title) for column in columns]
    cells = [max((cell_len(row[i]) for row in rows), default=0) for i in range(len(columns))]
    widths = [max(title, cell) for title, cell in zip(titles, cells, strict=True)]
    floors = [
        cell if column.numeric else min(whole, max(title, NARROWEST_LABEL))
        for column, title, cell, whole in zip(columns, titles, cells, widths, strict=True)
    ]
    for gap in (2, 1):
        free = width - gap * (len(columns) - 1)
        while sum(widths) > free:
            give = max(range(len(columns)), key=lambda i: (widths[i] > floors[i], widths[i]))
            if widths[give] <= floors[give]:
                break
            widths[give] -= 1
        else:
            return widths, gap
    return widths, 1
