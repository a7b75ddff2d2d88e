"""LaTeX that pdfLaTeX compiles, whatever runs are called."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from harness.report.blocks import Column, Table
from harness.report.latex import _table, escape, latex
from tests.report_support import rich, whole
from tests.stored import results, trial_run

HOSTILE = r"\input{/etc/passwd} 50% of $x_1$ & {y} ~ ^ # \end{document} [*] 学習率 🙂 naïve"
PAPER = r"""\documentclass{article}
\usepackage[T1]{fontenc}
\usepackage{array,booktabs,longtable}
\begin{document}
\input{report}
\end{document}
"""


def test_a_letter_that_pdflatex_lacks_is_told_by_its_code() -> None:
    assert escape("naïve 率") == r"naïve \texttt{U+7387}"


def test_long_text_is_broken_into_lines_and_figures_are_not() -> None:
    table = Table(
        (Column("name"), Column("why"), Column("value", numeric=True)),
        (("a", "many words " * 20, "0.5"),),
    )
    (begin,) = [line for line in _table(table) if "begin{longtable}" in line]
    assert begin.startswith(r"\begin{longtable}{l>{\raggedright\arraybackslash}p{0.")
    assert begin.endswith(r"\linewidth}r}")


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
    text = latex([whole(rich()), whole(named)])
    (tmp_path / "report.tex").write_text(text, encoding="utf-8")
    (tmp_path / "paper.tex").write_text(PAPER, encoding="utf-8")
    made = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0, made.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "paper.pdf").stat().st_size > 10_000
