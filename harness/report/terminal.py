"""A report for a terminal, and for a file or pipe in its place."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.build import Report
from harness.report.escaping import clean
from harness.report.shorten import shortened

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


def _renderable(block: Block, width: int) -> RenderableType:
    if isinstance(block, Paragraph):
        return Text(clean(block.text), style=STYLES[block.tone])
    above = [Text(clean(block.caption), style="italic")] if block.caption else []
    columns, rows, remarks = fitting(block, width)
    below = [Text(remarks)] if remarks else []
    return Group(*above, _table(columns, rows, width), *below)


def _table(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> RichTable:
    widths, gap = column_widths(columns, rows, width)
    table = RichTable(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
    )
    for column, wide in zip(columns, widths, strict=True):
        justify: Literal["right", "left"] = "right" if column.numeric else "left"
        table.add_column(column.title, justify=justify, width=wide, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def fitting(block: Table, width: int) -> tuple[list[Column], list[list[str]], str]:
    """A table's columns and cells, and what stands below it.

    Where it is too wide, an option that all labels of a column share is told once, in its title:
    for "mlp(hidden=[16])" it is "mlp [16]" under "model (hidden)". Then remarks go below.
    """
    columns = list(block.columns)
    rows = [[clean(cell) for cell in row] for row in block.rows]
    if _fits(columns, rows, width):
        return columns, rows, ""
    for place, column in enumerate(columns):
        title, labels = shortened(column.title, [row[place] for row in rows])
        columns[place] = replace(column, title=title)
        for row, label in zip(rows, labels, strict=True):
            row[place] = label
    if columns[-1].remark and not _fits(columns, rows, width):
        first = columns[0].title
        told: dict[str, dict[str, None]] = {}
        for row in rows:
            told.setdefault(row[-1], {})[row[0]] = None
        remarks = (f"{text}: {first} {', '.join(of)}" for text, of in told.items() if text)
        return columns[:-1], [row[:-1] for row in rows], "; ".join(remarks) + "."
    return columns, rows, ""


def _fits(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> bool:
    return sum(_widest(columns, rows)) + len(columns) - 1 <= width


def column_widths(
    columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[int], int]:
    """How wide each column is, and the gap between two: 2, or 1 where that is all there is.

    Titles are broken between words before labels are, and labels before figures, which never are: a
    figure broken over two lines is misread. The widest label gives way first, none below
    `NARROWEST_LABEL` or a word of its title; what is still too wide stays so, since a column that
    is not there is worse.
    """
    words = [max(map(cell_len, column.title.split()), default=0) for column in columns]
    cells = [max((cell_len(row[i]) for row in rows), default=0) for i in range(len(columns))]
    whole = _widest(columns, rows)
    bodies = [max(word, cell) for word, cell in zip(words, cells, strict=True)]
    floors = [
        body if column.numeric else min(body, max(word, NARROWEST_LABEL))
        for column, word, body in zip(columns, words, bodies, strict=True)
    ]
    for gap, least in ((2, bodies), (1, bodies), (1, floors)):
        widths = _narrowed(whole, least, width - gap * (len(columns) - 1))
        if widths is not None:
            return widths, gap
    return floors, 1


def _narrowed(widths: Sequence[int], least: Sequence[int], free: int) -> list[int] | None:
    """Widths of `free` in all at most, none below its least, the widest cut first; None where that
    cannot be."""
    if sum(least) > free:
        return None
    found = list(widths)
    while sum(found) > free:
        give = max(range(len(found)), key=lambda i: (found[i] > least[i], found[i]))
        found[give] -= 1
    return found


def _widest(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    """Each column's widest cell or title."""
    return [
        max(cell_len(column.title), *(cell_len(row[place]) for row in rows))
        if rows
        else cell_len(column.title)
        for place, column in enumerate(columns)
    ]
