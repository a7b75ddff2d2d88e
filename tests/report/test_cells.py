"""Spreadsheets must show cells, not calculate them."""

from __future__ import annotations

import csv
import io

import pytest

from harness.core.text import escape_formula, format_csv


@pytest.mark.parametrize(
    "cell",
    ["=cmd()", "+1+1", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "  =1", "-", "+inf()", "-1_000", "-inf"],
)
def test_formulas_are_neutralised(cell: str) -> None:
    assert escape_formula(cell) == "'" + cell


@pytest.mark.parametrize("cell", ["-0.5", "+1", "1e-3", "-1.5E+3", "adam", "a=b", "", "mlp(x=-1)"])
def test_numbers_and_words_stay(cell: str) -> None:
    assert escape_formula(cell) == cell


def test_values() -> None:
    assert escape_formula(-0.5) == "-0.5"
    assert escape_formula(0.1 + 0.2) == "0.30000000000000004"  # exact, to be read back
    assert escape_formula(None) == escape_formula(float("nan")) == ""
    assert escape_formula(3) == "3"


def test_what_is_written_is_read_back() -> None:
    rows: list[list[object]] = [["a,b", 'say "x"'], ["two\nlines", 1.5]]

    read = list(csv.reader(io.StringIO(format_csv(["one", "=two"], rows))))

    assert read == [["one", "'=two"], ["a,b", 'say "x"'], ["two\nlines", "1.5"]]
