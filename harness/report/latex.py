"""A report as LaTeX: sections and `booktabs` tables, to be included in a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.report.blocks import Block, Paragraph, Table
from harness.report.build import Report
from harness.report.clean import clean

HEAD = "% Needs \\usepackage{booktabs,longtable} and \\usepackage[T1]{fontenc}."
_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
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
}


def latex(reports: Iterable[Report]) -> str:
    """The reports as LaTeX; text from the store cannot become a command."""
    lines = [HEAD]
    for report in reports:
        lines += _lines(report)
    return "\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(_SPECIAL.get(character, character) for character in clean(text))


def _lines(report: Report) -> Iterator[str]:
    yield f"\\section{{{escape(report.experiment)}}}"
    for part in report.parts:
        if part.section.title:
            yield f"\\subsection{{{escape(part.section.title)}}}"
        for block in part.blocks():
            yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Paragraph):
        text = escape(block.text)
        yield f"\\textbf{{{text}}}" if block.tone != "plain" else text
        yield ""
    else:
        yield from _table(block)


def _table(table: Table) -> Iterator[str]:
    """Over several pages where it must."""
    if table.caption:
        yield f"\\paragraph{{{escape(table.caption)}}}"
    yield f"\\begin{{longtable}}{{{''.join('r' if c.numeric else 'l' for c in table.columns)}}}"
    yield r"\toprule"
    yield f"{_row(column.title for column in table.columns)} \\midrule \\endhead"
    # In braces: a cell that begins with "[" or "*" would be read as an option of the line's end.
    yield from (_row(row) for row in table.rows)
    yield r"\bottomrule"
    yield r"\end{longtable}"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(f"{{{escape(cell)}}}" for cell in cells) + r" \\"
