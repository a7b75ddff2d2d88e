"""A report as LaTeX: sections and `booktabs` tables, to be included in a paper."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from harness.report.blocks import Block, Paragraph, Table
from harness.report.build import Report
from harness.report.escaping import clean

HEAD = "% Needs \\usepackage{array,booktabs,longtable} and \\usepackage[T1]{fontenc}."
LINE = 80
"""Characters that fit on an article's line in small type."""
LONG = 16
"""Characters from which a column of text may be broken into lines."""
LEAST = 12
KNOWN = 0x180
"""Code points below are letters of the T1 encoding."""
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
    return "".join(_SPECIAL.get(one) or _plain(one) for one in clean(text))


def _plain(character: str) -> str:
    """A character as it is, or its code where pdfLaTeX has no such letter."""
    return character if ord(character) < KNOWN else f"\\texttt{{U+{ord(character):04X}}}"


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
    """Over several pages where it must, in small type."""
    if table.caption:
        yield f"\\paragraph{{{escape(table.caption)}}}"
    yield r"\begingroup\footnotesize\setlength{\tabcolsep}{3pt}"
    yield f"\\begin{{longtable}}{{{''.join(_columns(table))}}}"
    yield r"\toprule"
    yield f"{_row(column.title for column in table.columns)} \\midrule \\endhead"
    # In braces: a cell that begins with "[" or "*" would be read as an option of the line's end.
    yield from (_row(row) for row in table.rows)
    yield r"\bottomrule"
    yield r"\end{longtable}\endgroup"


def _columns(table: Table) -> Iterator[str]:
    """Each column's kind; of text that does not fit on a line, a box in which it is broken."""
    widths = [
        max([len(column.title), *(len(row[place]) for row in table.rows)])
        for place, column in enumerate(table.columns)
    ]
    room: float = LINE - sum(widths) - len(widths)
    broken = [
        place
        for place, column in enumerate(table.columns)
        if room < 0 and not column.numeric and widths[place] > LONG
    ]
    room += sum(widths[place] for place in broken)
    boxes: dict[int, float] = {}
    for done, place in enumerate(sorted(broken, key=widths.__getitem__)):
        boxes[place] = max(min(widths[place], room / (len(broken) - done)), LEAST)
        room -= boxes[place]
    for place, column in enumerate(table.columns):
        if place in boxes:
            share = f"{boxes[place] / LINE:.2f}"
            yield f">{{\\raggedright\\arraybackslash}}p{{{share}\\linewidth}}"
        else:
            yield "r" if column.numeric else "l"


def _row(cells: Iterable[str]) -> str:
    return " & ".join(f"{{{escape(cell)}}}" for cell in cells) + r" \\"
