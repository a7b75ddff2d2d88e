"""A report for a terminal, and for a file or pipe in its place."""

from __future__ import annotations

import io
import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import replace

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.report.blocks import Block, Column, Paragraph, ReportTable, clean
from harness.report.formatting import shorten_labels
from harness.report.section import Report

STYLES = {"plain": "", "claim": "bold", "caution": "yellow"}
NARROWEST = 40
NARROWEST_LABEL = 8
GAP = 2
"""Columns between two columns of a table; 1 if it is too wide otherwise."""
UNLIMITED = 100_000
"""Columns of the console: the width of each paragraph and table is set on its own."""


def for_stdout(reports: Iterable[Report]) -> str:
    """Returns the reports for standard output: as wide as it is, 80 columns if that is not known,
    and without colours if it is no terminal."""
    color = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return terminal(reports, shutil.get_terminal_size((80, 24)).columns, color)


def terminal(reports: Iterable[Report], width: int = 80, color: bool = False) -> str:
    """Returns the reports as text of so many columns, by request with colours and bold type."""
    console = Console(
        file=io.StringIO(),
        width=UNLIMITED,
        force_terminal=color,
        color_system="standard" if color else None,
        markup=False,
        highlight=False,
        emoji=False,
    )
    width = max(width, NARROWEST)
    with console.capture() as captured:
        for report in reports:
            title = Text(clean(report.experiment), style="bold underline" if color else "")
            console.print(title, width=width)
            for section, record in report.parts:
                if section.title:
                    console.print(Text(f"\n{section.title}", style="bold"), width=width)
                for block in section.blocks(record):
                    _print(block, console, width)
            console.print()
    return "\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n"


def _print(block: Block, console: Console, width: int) -> None:
    if isinstance(block, Paragraph):
        console.print(Text(clean(block.text), style=STYLES[block.tone]), width=width)
        return
    if block.caption:
        console.print(Text(clean(block.caption), style="italic"), width=width)
    block = replace(block, rows=tuple(tuple(map(clean, row)) for row in block.rows))
    remarks = ""
    if _natural_width(block) > width:
        block = _with_short_labels(block)
        if block.columns[-1].remark and _natural_width(block) > width:
            block, remarks = _without_remarks(block)
    # Titles are broken into lines first, then gaps are narrowed, then labels are broken.
    broken_titles = _natural_width(block) > width
    gap = 1 if broken_titles and _natural_width(block, broken_titles) > width else GAP
    table = _table(block, broken_titles, gap)
    # A table that is still too wide stays so: a column that is missing would be worse.
    needed = sum(column.min_width or 0 for column in table.columns) + len(table.columns) - 1
    console.print(table, width=max(width, needed))
    if remarks:
        console.print(Text(remarks), width=width)


def _table(block: ReportTable, broken_titles: bool, gap: int) -> Table:
    """Numbers are never broken over lines, since they would be misread."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for place, column in enumerate(block.columns):
        cell, word = _cell_width(block, place), _title_width(column, broken=True)
        broken = broken_titles and cell_len(column.title) > cell
        table.add_column(
            Text(column.title.replace(" ", "\n") if broken else column.title),
            justify="right" if column.numeric else "left",
            no_wrap=column.numeric,
            overflow="fold",
            min_width=max(word, cell if column.numeric else min(cell, NARROWEST_LABEL)),
        )
    for row in block.rows:
        table.add_row(*map(Text, row))
    return table


def _natural_width(block: ReportTable, broken_titles: bool = False) -> int:
    """Returns the width of a table whose labels are not broken over lines."""
    widths = [
        max(_cell_width(block, place), _title_width(column, broken_titles))
        for place, column in enumerate(block.columns)
    ]
    return sum(widths) + GAP * (len(widths) - 1)


def _cell_width(block: ReportTable, place: int) -> int:
    return max((cell_len(row[place]) for row in block.rows), default=0)


def _title_width(column: Column, broken: bool) -> int:
    """Returns the width of a title, or of its longest word if it is broken into lines."""
    return max(map(cell_len, column.title.split() if broken else [column.title]), default=0)


def _with_short_labels(block: ReportTable) -> ReportTable:
    """Moves an option that all labels of a column share into the column's title."""
    columns, cells = [], []
    for place, column in enumerate(block.columns):
        title, labels = shorten_labels(column.title, [row[place] for row in block.rows])
        columns.append(replace(column, title=title))
        cells.append(labels)
    return replace(block, columns=tuple(columns), rows=tuple(zip(*cells, strict=True)))


def _without_remarks(block: ReportTable) -> tuple[ReportTable, str]:
    """Moves the last column into a sentence, which names rows by their first cell."""
    rows_of: dict[str, dict[str, None]] = {}
    for row in block.rows:
        rows_of.setdefault(row[-1], {})[row[0]] = None
    first = block.columns[0].title
    remarks = "; ".join(f"{text}: {first} {', '.join(of)}" for text, of in rows_of.items() if text)
    return block.without_last_column(), f"{remarks}."
