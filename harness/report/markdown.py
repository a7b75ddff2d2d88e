"""A report as GitHub's markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.report.blocks import Block, Paragraph, Table
from harness.report.build import Report
from harness.report.escaping import clean


def markdown(reports: Iterable[Report]) -> str:
    """The reports as markdown; text from the store can become neither markup nor HTML."""
    return "\n".join(line for report in reports for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield from (f"# {escape(report.experiment)}", "")
    for part in report.parts:
        if part.section.title:
            yield from (f"## {part.section.title}", "")
        for block in part.blocks():
            yield from (*_block(block), "")


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        text = escape(block.text)
        yield f"**{text}**" if block.tone != "plain" else text
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    if table.caption:
        yield from (f"**{escape(table.caption)}**", "")
    yield _row(column.title for column in table.columns)
    yield _row(("---:" if column.numeric else "---") for column in table.columns)
    yield from (_row(escape(cell) for cell in row) for row in table.rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Text that markdown shows as it is."""
    harmless = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore within a word is no markup, nor is a bracket that no parenthesis follows.
    harmless = re.sub(r"([\\`*|~])", r"\\\1", harmless)
    harmless = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", harmless)
    return re.sub(r"\](?=[(\[:])", r"\\]", harmless)
