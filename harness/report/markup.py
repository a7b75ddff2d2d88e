"""A report as GitHub's markdown, and as LaTeX with `booktabs` tables for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import pandas as pd

from harness.report.blocks import Block, Paragraph, ReportTable, clean
from harness.report.section import Report

LATEX_HEAD = "% Needs \\usepackage{array,booktabs,longtable} and \\usepackage[T1]{fontenc}."
LINE = 80
"""Characters that fit on an article's line in small type."""
LONG = 16
"""Characters from which a column of text may be broken into lines."""
NARROWEST = 12
"""Characters of the narrowest column that is broken into lines."""
KNOWN = 0x180
"""Code points below are letters of the T1 encoding."""
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "χ": r"$\chi$",
    "²": r"$^2$",
    "–": "--",
    "…": r"\ldots{}",
    "�": "?",
} | {character: f"\\{character}" for character in "{}$&#%_"}


def markdown(reports: Iterable[Report]) -> str:
    """Returns the reports as markdown. Text from the store can become neither markup nor HTML."""
    lines = _lines(reports, ("# {}\n", "## {}\n"), escape_markdown, _markdown_block)
    return "\n".join(lines)


def latex(reports: Iterable[Report]) -> str:
    """Returns the reports as LaTeX. Text from the store cannot become a command."""
    headings = (r"\section{{{}}}", r"\subsection{{{}}}")
    lines = _lines(reports, headings, escape_latex, latex_block)
    return "\n".join([LATEX_HEAD, *lines]) + "\n"


def _lines(
    reports: Iterable[Report],
    headings: tuple[str, str],
    escape: Callable[[str], str],
    show: Callable[[Block], Iterator[str]],
) -> Iterator[str]:
    """headings: templates of a report's and of a section's heading."""
    for report in reports:
        yield headings[0].format(escape(report.experiment))
        for section, record in report.parts:
            if section.title:
                yield headings[1].format(escape(section.title))
            for block in section.blocks(record):
                yield from show(block)


def escape_markdown(text: str) -> str:
    """Returns text that markdown shows as it is."""
    safe = clean(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # An underscore within a word is no markup, nor is a bracket that no parenthesis follows.
    safe = re.sub(r"([\\`*|~])", r"\\\1", safe)
    safe = re.sub(r"(?<!\w)_|_(?!\w)", r"\\_", safe)
    return re.sub(r"\](?=[(\[:])", r"\\]", safe)


def _markdown_block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        text = escape_markdown(block.text)
        yield f"**{text}**\n" if block.tone != "plain" else f"{text}\n"
        return
    if block.caption:
        yield f"**{escape_markdown(block.caption)}**\n"
    titles = [column.title for column in block.columns]
    alignments = ["---:" if column.numeric else "---" for column in block.columns]
    cells = [list(map(escape_markdown, row)) for row in block.rows]
    yield from (f"| {' | '.join(row)} |" for row in (titles, alignments, *cells))
    yield ""


def escape_latex(text: str) -> str:
    """Returns text that LaTeX prints as it is; letters that pdfLaTeX lacks become their code."""
    return "".join(
        _SPECIAL.get(c) or (c if ord(c) < KNOWN else f"\\texttt{{U+{ord(c):04X}}}")
        for c in clean(text)
    )


def latex_block(block: Block) -> Iterator[str]:
    """Yields the lines of a paragraph, or of a table that may go on over several pages."""
    if isinstance(block, Paragraph):
        text = escape_latex(block.text)
        yield f"\\textbf{{{text}}}\n" if block.tone != "plain" else f"{text}\n"
        return
    if block.caption:
        yield f"\\paragraph{{{escape_latex(block.caption)}}}"
    yield r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}"
    # pandas escapes neither "<" nor "±", so the cells come escaped; it formats the titles.
    titles = [
        _braced(column.title).replace("{", "{{").replace("}", "}}") for column in block.columns
    ]
    cells = pd.DataFrame(
        [list(map(_braced, row)) for row in block.rows], columns=range(len(titles))
    )
    formats = "".join(_column_formats(block))
    yield cells.to_latex(
        index=False, header=titles, column_format=formats, escape=False, longtable=True
    ).rstrip()
    yield r"\endgroup"


def _braced(text: str) -> str:
    """Escapes a cell. Without braces a cell that begins with "[" or "*" would be read as an option
    of the line before."""
    return f"{{{escape_latex(text)}}}"


def _column_formats(table: ReportTable) -> Iterator[str]:
    """Yields the format of each column. If the table is wider than a line, long columns of text
    share the room that the others leave, and are broken into lines."""
    widths = [
        min(max([len(column.title), *(len(row[place]) for row in table.rows)]), LINE)
        for place, column in enumerate(table.columns)
    ]
    breakable = [
        0 if column.numeric or width <= LONG else width
        for column, width in zip(table.columns, widths, strict=True)
    ]
    wanted = sum(breakable)
    room = LINE - len(widths) - (sum(widths) - wanted)
    for column, width in zip(table.columns, breakable, strict=True):
        if width and wanted > room:
            share = max(room * width / wanted, NARROWEST) / LINE
            yield f">{{\\raggedright\\arraybackslash}}p{{{share:.2f}\\linewidth}}"
        else:
            yield "r" if column.numeric else "l"
