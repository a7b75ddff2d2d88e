"""Tables in as many columns as a terminal has."""

from __future__ import annotations

import re

from rich.cells import cell_len

from harness.report.blocks import Column, Table
from harness.report.build import build_report
from harness.report.section import chosen
from harness.report.terminal import column_widths, fitting, terminal
from tests.report_support import rich

WIDE = Table(
    (Column("#", numeric=True), Column("model"), Column("val/accuracy", numeric=True)),
    (("1", "mlp(hidden=[32, 32])", "0.9890 ± 0.0110"), ("2", "cnn", "0.98 ± 0.01")),
)


def test_an_option_that_all_share_is_told_once_where_room_is_short() -> None:
    columns, rows, _ = fitting(WIDE, 32)
    assert [column.title for column in columns] == ["#", "model (hidden)", "val/accuracy"]
    assert [row[1] for row in rows] == ["mlp [32, 32]", "cnn"]
    assert fitting(WIDE, 80)[1][0][1] == "mlp(hidden=[32, 32])"


def test_labels_with_several_options_or_different_ones_stay_whole() -> None:
    for labels in (["mlp(hidden=[16], dropout=0.5)"], ["mlp(hidden=[16])", "cnn(channels=[8])"]):
        table = Table((Column("model"),), tuple((label,) for label in labels))
        assert [row[0] for row in fitting(table, 5)[1]] == labels


def test_titles_are_broken_before_labels_and_figures_never() -> None:
    columns = (Column("long title"), Column("of figures", numeric=True))
    rows = [["a label", "12.345"]]
    assert column_widths(columns, rows, 24) == ([10, 10], 2)
    assert column_widths(columns, rows, 16) == ([7, 7], 2)
    assert column_widths(columns, rows, 15) == ([7, 7], 1)
    assert column_widths(columns, rows, 9) == ([7, 7], 1)


def test_remarks_go_below_where_room_is_short() -> None:
    table = Table(
        (Column("#", numeric=True), Column("optimizer"), Column("note", remark=True)),
        (("1", "adam", ""), ("2", "sgd", "20% diverged"), ("3", "lion", "20% diverged")),
    )
    assert fitting(table, 24)[2] == ""
    columns, rows, remarks = fitting(table, 23)
    assert [column.title for column in columns] == ["#", "optimizer"]
    assert rows[1] == ["2", "sgd"]
    assert remarks == "20% diverged: # 2, 3."


def test_the_leaderboard_of_a_whole_grid_takes_one_line_a_config() -> None:
    """Two nets, three optimizers, two schedulers: none of its rows is broken at 80 columns."""
    report = build_report(rich(), of=chosen(["leaderboard", "best_of_each"]))
    lines = terminal([report], width=80).splitlines()
    assert max(map(cell_len, lines)) <= 80
    rows = [line for line in lines if "mlp [" in line]
    assert len(rows) == 3 * 48 + 3 * 6
    whole = re.compile(r"mlp \[(16|32, 32)\] +\w+ +[\d.]+ +(constant|cosine) ")
    assert all(whole.search(row) for row in rows)
    assert "100% diverged: # 45." in lines
