"""Tables in as many columns as a terminal has."""

from __future__ import annotations

import re
from dataclasses import replace

from rich.cells import cell_len

from harness.report.blocks import Block, Column, ReportTable, columns
from harness.report.section import Report, build_report, choose_sections
from harness.report.terminal import terminal
from tests.report_support import full_grid

WIDE = ReportTable(
    (Column("#", numeric=True), Column("model"), Column("val/accuracy", numeric=True)),
    (("1", "mlp(hidden=[32, 32, 32])", "0.9890 ± 0.0110"), ("2", "cnn", "0.98 ± 0.01")),
)
LEAST = 40
"""A terminal counts as no narrower than this."""


def shown(block: Block, width: int) -> list[str]:
    """The lines of one block on a terminal."""
    (section,) = choose_sections(["methods"])
    part = replace(section, title="", blocks=lambda _: (block,))
    report = build_report(full_grid(), of=())
    text = terminal([Report("name", report.comparison, ((part, None),))], width)
    return text.splitlines()[1:-1]


def table(*titles: str, row: tuple[str, ...], numeric: tuple[str, ...] = ()) -> ReportTable:
    return ReportTable(columns(*titles, numeric=numeric), (row,))


def test_an_option_that_all_share_moves_to_the_title_of_a_narrow_table() -> None:
    wide, narrow = shown(WIDE, 80), shown(WIDE, LEAST)
    assert "mlp(hidden=[32, 32, 32])" in wide[2]
    assert "model (hidden)" in narrow[0]
    assert re.fullmatch(r"1 +mlp \[32, 32, 32\] +0\.9890 ± 0\.0110", narrow[2])
    assert re.fullmatch(r"2 +cnn +0\.98 ± 0\.01", narrow[3])


def test_labels_with_several_options_or_different_ones_stay_whole() -> None:
    for labels in (["mlp(hidden=[16], dropout=0.5)"], ["mlp(hidden=[16])", "cnn(channels=[8])"]):
        rows = tuple((label, "x" * 30) for label in labels)
        text = "\n".join(shown(ReportTable(columns("model", numeric=("other",)), rows), LEAST))
        assert "model (" not in text


def test_titles_are_broken_before_labels_and_numbers_never() -> None:
    title = " ".join(["word"] * 4)
    row = ("a label of 22 letters", "12.3456789")
    whole = shown(table(title, numeric=(title,), row=row), 45)
    broken = shown(table(title, numeric=(title,), row=row), LEAST)
    assert "word word word word" in whole[0]
    assert len(broken) > len(whole)
    assert "a label of 22 letters" in broken[-1]
    assert all("12.3456789" in lines[-1] for lines in (whole, broken))

    long = shown(table("label", numeric=("number",), row=("label " * 10, "9" * 30)), LEAST)
    assert sum("9" * 30 in line for line in long) == 1
    assert sum("label" in line for line in long) > 3
    assert max(map(cell_len, long)) <= LEAST


def test_a_number_wider_than_the_terminal_stays_whole() -> None:
    lines = shown(table("label", numeric=("number",), row=("one", "9" * 60)), LEAST)
    assert any("9" * 60 in line for line in lines)


def test_remarks_go_below_a_narrow_table() -> None:
    table = ReportTable(
        (Column("#", numeric=True), Column("optimizer"), Column("note", remark=True)),
        (("1", "a" * 25, ""), ("2", "sgd", "20% diverged"), ("3", "lion", "20% diverged")),
    )
    wide, narrow = shown(table, 42), shown(table, 41)
    assert re.fullmatch(r"2 +sgd +20% diverged", wide[-2])
    assert "note" not in narrow[0]
    assert re.fullmatch(r"2 +sgd", narrow[-3])
    assert narrow[-1] == "20% diverged: # 2, 3."


def test_the_leaderboard_of_a_whole_grid_takes_one_line_a_config() -> None:
    """Two nets, three optimizers, two schedulers: none of its rows is broken at 80 columns."""
    report = build_report(full_grid(), of=choose_sections(["leaderboard", "best_of_each"]))
    lines = terminal([report], width=80).splitlines()
    assert max(map(cell_len, lines)) <= 80
    rows = [line for line in lines if "mlp [" in line]
    assert len(rows) == 3 * 48 + 3 * 6
    whole = re.compile(r"mlp \[(16|32, 32)\] +\w+ +[\d.]+ +(constant|cosine) ")
    assert all(whole.search(row) for row in rows)
    assert "100% diverged: # 45." in lines
