"""A report as GitHub's markdown."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from harness.report.blocks import Block, Paragraph
from harness.report.build import Report
from harness.report.escaping import clean


def markdown(reports: Iterable[Report]) -> str:
    """Returns the reports as markdown. Text from the store can become neither markup nor HTML."""
    return "\n".join(line for report in reports for line in _lines(report))


def _lines(report: Report) -> Iterator[str]:
    yield from (f"# {escape(report.experiment)}", "")
    for section, record in report.parts:
        if section.title:
            yield from (f"## {section.title}", "")
        for block in section.blocks(record):
            yield from (*_block(block), "")


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        text = escape(block.text)
        yield f"**{text}**" if block.tone != "plain" else text
        return
    if block.caption:
        yield from (f"**{escape(block.caption)}**", "")
    yield _row(column.title for column in block.columns)
    yield _row(("---:" if column.numeric else "---") for column in block.columns)
    yield from (_row(map(escape, row)) for row in block.rows)


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Returns text that markdown shows as it is."""
    safe = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore within a word is no markup, nor is a bracket that no parenthesis follows.
    safe = re.sub(r"([\\`*|~])", r"\\\1", safe)
    safe = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", safe)
    return re.sub(r"\](?=[(\[:])", r"\\]", safe)
