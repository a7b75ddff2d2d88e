"""A report as LaTeX: sections and `booktabs` tables, to be included in a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pandas as pd

from harness.report.blocks import Block, Paragraph, ReportTable
from harness.report.build import Report
from harness.report.escaping import clean

HEAD = "% Needs \\usepackage{array,booktabs,longtable} and \\usepackage[T1]{fontenc}."
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


def latex(reports: Iterable[Report]) -> str:
    """Returns the reports as LaTeX. Text from the store cannot become a command."""
    return "\n".join([HEAD, *(line for report in reports for line in _lines(report))]) + "\n"


def escape(text: str) -> str:
    """Returns text that LaTeX prints as it is; letters that pdfLaTeX lacks become their code."""
    return "".join(
        _SPECIAL.get(c) or (c if ord(c) < KNOWN else f"\\texttt{{U+{ord(c):04X}}}")
        for c in clean(text)
    )


def _lines(report: Report) -> Iterator[str]:
    yield f"\\section{{{escape(report.experiment)}}}"
    for section, record in report.parts:
        if section.title:
            yield f"\\subsection{{{escape(section.title)}}}"
        for block in section.blocks(record):
            yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        text = escape(block.text)
        yield f"\\textbf{{{text}}}" if block.tone != "plain" else text
        yield ""
        return
    if block.caption:
        yield f"\\paragraph{{{escape(block.caption)}}}"
    yield r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}"
    # pandas escapes neither "<" nor "±", so the cells come escaped; it formats the titles.
    titles = [
        _braced(column.title).replace("{", "{{").replace("}", "}}") for column in block.columns
    ]
    cells = pd.DataFrame(
        [[_braced(cell) for cell in row] for row in block.rows], columns=range(len(titles))
    )
    yield cells.to_latex(
        index=False,
        header=titles,
        column_format="".join(_column_format(block)),
        escape=False,
        longtable=True,
    ).rstrip()
    yield r"\endgroup"


def _braced(text: str) -> str:
    """Escapes a cell. Without braces a cell that begins with "[" or "*" would be read as an option
    of the line before."""
    return f"{{{escape(text)}}}"


def _column_format(table: ReportTable) -> Iterator[str]:
    """Yields the format of each column. If the table is wider than a line, long columns of text
    share the room that the others leave, and are broken into lines."""
    widths = [
        min(max([len(column.title), *(len(row[place]) for row in table.rows)]), LINE)
        for place, column in enumerate(table.columns)
    ]
    long = [
        not column.numeric and width > LONG
        for column, width in zip(table.columns, widths, strict=True)
    ]
    wanted = sum(width for width, is_long in zip(widths, long, strict=True) if is_long)
    room = LINE - len(widths) - (sum(widths) - wanted)
    for column, width, is_long in zip(table.columns, widths, long, strict=True):
        if is_long and wanted > room:
            share = max(room * width / wanted, NARROWEST) / LINE
            yield f">{{\\raggedright\\arraybackslash}}p{{{share:.2f}\\linewidth}}"
        else:
            yield "r" if column.numeric else "l"
