"""LaTeX that pdfLaTeX compiles, whatever the names of runs are."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.report.blocks import ReportTable, columns
from harness.report.markup import escape_latex, latex, latex_block
from tests.report_support import full_grid, whole_report
from tests.stored import results, trial_run

HOSTILE = r"\input{/etc/passwd} 50% of $x_1$ & {y} ~ ^ # \end{document} [*] 学習率 🙂 naïve"
PAPER = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{array,booktabs,longtable}
\begin{document}
\input{report}
\end{document}
"""


def test_a_letter_that_pdflatex_lacks_becomes_its_code() -> None:
    assert escape_latex("naïve 率") == r"naïve \texttt{U+7387}"


def begins(table: ReportTable) -> str:
    """The line that opens a table."""
    lines = "\n".join(latex_block(table)).splitlines()
    (begin,) = [line for line in lines if "begin{longtable}" in line]
    return begin


def test_long_text_is_broken_into_lines_and_numbers_are_not() -> None:
    row = ("a", "many words " * 20, "0.5")
    begin = begins(ReportTable(columns("name", "why", numeric=("value",)), (row,)))
    assert begin.startswith(r"\begin{longtable}{l>{\raggedright\arraybackslash}p{0.")
    assert begin.endswith(r"\linewidth}r}")


def test_a_table_that_fits_on_a_line_is_not_broken() -> None:
    row = ("a", "seven words of no more than 40 letters", "0.5")
    begin = begins(ReportTable(columns("name", "why", numeric=("value",)), (row,)))
    assert begin == r"\begin{longtable}{llr}"


def test_a_table_keeps_cells_titles_and_caption_however_hostile() -> None:
    rows = (("[1] *", "{0} %s", "0.5"), (HOSTILE, "", "–"))
    table = ReportTable(columns("{}", "a & b", numeric=("P%",)), rows, caption="50% of #")
    text = "\n".join(latex_block(table))
    assert r"\paragraph{50\% of \#}" in text
    assert text.count(r"{\{\}} & {a \& b} & {P\%} \\") == 2  # on the first page and the next
    assert r"{[1] *} & {\{0\} \%s} & {0.5} \\" in text
    assert f"{{{escape_latex(HOSTILE)}}} & {{}} & {{--}} \\\\" in text
    assert r"\toprule" in text
    assert r"\bottomrule" in text


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_pdflatex_compiles_every_section_and_hostile_names(tmp_path: Path) -> None:
    named = results(
        trial_run(0.9, name=HOSTILE),
        trial_run(
            outcome="failed",
            status="FAILED",
            seed=1,
            name=HOSTILE,
            tags={"harness.reason": HOSTILE},
        ),
    )
    text = latex([whole_report(full_grid()), whole_report(named)])
    (tmp_path / "report.tex").write_text(text, encoding="utf-8")
    (tmp_path / "paper.tex").write_text(PAPER, encoding="utf-8")
    process = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
