"""Scores of any size rank, tie and print as themselves, in tables, sentences and charts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.cli.progress import ProgressState
from harness.core.metrics import Goal
from harness.core.text import format_score
from harness.report.blocks import ReportTable
from harness.report.canvas import fit_scale, tick_text
from harness.report.figures import HeatMap
from harness.report.formatting import probability
from harness.report.html import html
from harness.report.markup import latex, markdown
from harness.report.section import Report
from harness.report.svg import draw
from harness.report.terminal import terminal
from harness.store.names import TAG_DIRECTION
from harness.store.read.results import results_table
from tests.report_support import StubRunDetails, whole_report, with_run_details
from tests.stored import results, seeds, sweep_run, trial_run

SCALES = [1e-300, 1e-14, 1e-5, 1.0, 1e12, 1e300]
SCORES: dict[tuple[str, float], list[float]] = {
    ("adam", 0.01): [9.0, 9.1, 9.2, 9.3, 9.4, 9.5],
    ("adam", 0.1): [9.5, 9.4, 9.3, 9.2, 9.1, 9.0],
    ("sgd", 0.01): [8.0, 8.3, 8.1, 8.5, 8.2, 8.4],
    ("sgd", 0.1): [1.0, 1.3, 1.1, 1.5, 1.2, 1.4],
}
"""By optimizer and learning rate. Both of adam have the same mean."""


def scaled(scale: float) -> Report:
    runs = [
        trial_run(score * scale, test=score * scale, optimizer=optimizer, lr=lr, seed=seed)
        for (optimizer, lr), scores in SCORES.items()
        for seed, score in enumerate(scores)
    ]
    return whole_report(with_run_details(results(*runs), StubRunDetails()))


def cells(report: Report, name: str, title: str) -> list[str]:
    section, record = next(part for part in report.parts if part[0].name == name)
    (table,) = (block for block in section.blocks(record) if isinstance(block, ReportTable))
    place = [column.title for column in table.columns].index(title)
    return [row[place] for row in table.rows]


@pytest.mark.parametrize("scale", SCALES)
def test_ranks_ties_and_claims_have_no_scale(scale: float) -> None:
    report, of_one = scaled(scale), scaled(1.0)
    for ours, theirs in zip(
        report.record("leaderboard").rows, of_one.record("leaderboard").rows, strict=True
    ):
        assert (ours.rank, ours.fields) == (theirs.rank, theirs.fields)
        assert ours.mean == pytest.approx(theirs.mean * scale, rel=1e-12, abs=0)
        assert ours.sd == pytest.approx(theirs.sd * scale, rel=1e-9, abs=0)
    assert [row.rank for row in report.record("leaderboard").rows] == [1, 1, 3, 4]
    (ours,), (theirs,) = report.record("paired").pairs, of_one.record("paired").pairs
    assert (ours.p, ours.better, ours.wins) == (theirs.p, theirs.better, theirs.wins)
    assert ours.interval.low == pytest.approx(theirs.interval.low * scale, rel=1e-9, abs=0)
    assert report.record("verdict").headline.finding == "beats"


@pytest.mark.parametrize("scale", SCALES)
def test_every_format_writes_significant_digits(scale: float) -> None:
    report = scaled(scale)
    texts = cells(report, "leaderboard", "val/accuracy")
    means = [float(text.split(" ± ")[0]) for text in texts]
    spreads = [float(text.split(" ± ")[1]) for text in texts]
    assert means == pytest.approx(
        [9.25 * scale, 9.25 * scale, 8.25 * scale, 1.25 * scale], rel=1e-3
    )
    assert all(0.15 * scale < spread < 0.2 * scale for spread in spreads)
    assert float(cells(report, "paired", "difference")[0]) == pytest.approx(scale, rel=1e-2)
    for text in (terminal([report]), markdown([report]), latex([report]), html([report])):
        assert texts[0] in text.replace("$\\pm$", "±").replace("\\textpm{}", "±")
        assert re.search(r"0\.0{10}", text) is None
        assert re.search(r"\d{16}", re.sub(r"[0-9a-f]{17,}", "", text)) is None


def test_mixed_sizes_stand_in_one_column_as_themselves() -> None:
    values = [1e-300, 3e-14, 5.5e-5, 0.123456, 12.0, 54321.0, 1e12]
    tags = {TAG_DIRECTION: "min"}
    runs = [
        run for place, value in enumerate(values) for run in seeds([value], lr=place + 1, tags=tags)
    ]
    table = results_table("demo", [sweep_run(direction="min"), *runs])
    assert table is not None
    report = whole_report(table)

    assert [row.rank for row in report.record("leaderboard").rows] == list(range(1, 8))
    shown = [float(text.split(" ")[0]) for text in cells(report, "leaderboard", "val/accuracy")]
    assert shown == pytest.approx(values, rel=1e-3)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-14, "1.000e-14"),
        (1.23456e-300, "1.235e-300"),
        (1e12, "1.000e+12"),
        (0.9, "0.9000"),
        (12.5, "12.500"),
        (-0.00012, "-0.0001200"),
        (0.0, "0.0000"),
    ],
)
def test_progress_shows_the_score_itself(value: float, text: str) -> None:
    state = ProgressState(1, Goal("val/mse", "min"), best=(value, "a"))
    assert state.best_so_far() == f"best val/mse {text} (a)"


@given(st.floats(-1e308, 1e308), st.integers(0, 9))
def test_a_score_reads_as_itself(value: float, decimals: int) -> None:
    for text in (format_score(value), format_score(value, decimals)):
        assert float(text) == pytest.approx(value, rel=6e-3, abs=0)
    assert (float(format_score(value, decimals, digits=1)) == 0) == (value == 0)


@given(
    st.floats(-1e6, 1e6),
    st.floats(0.01, 100),
    st.sampled_from([1e-300, 1e-14, 1e-3, 1.0, 1e12, 1e300]),
)
def test_ticks_read_as_the_places_where_they_stand(low: float, wide: float, size: float) -> None:
    scale = fit_scale([low * size, (low + wide) * size], 0, 100)
    ticks = scale.ticks()
    texts = [text for _, text in ticks]
    assert 2 <= len(texts) == len(set(texts))
    for value, text in ticks:
        assert scale.low <= value <= scale.high
        assert scale(float(text)) == pytest.approx(scale(value), abs=1e-3)


@pytest.mark.parametrize(
    "values", [[0.0], [1e-300], [5e-324, 1e-323], [1.7e308, -1.7e308], [1e308]]
)
@pytest.mark.parametrize("log", [False, True])
def test_no_size_breaks_an_axis(values: list[float], log: bool) -> None:
    fit_scale(values, 0, 100, log).ticks()


def test_a_tick_of_a_power_is_short() -> None:
    assert [tick_text(value) for value in (0.0, 0.01, 1e5, 1e-14)] == ["0", "0.01", "1e5", "1e-14"]
    assert tick_text(1.5e-14, 5e-15) == "1.5e-14"
    assert tick_text(0.98001, 1e-5) == "0.98001"


@pytest.mark.parametrize("scale", SCALES)
def test_a_heat_map_has_no_false_zero(scale: float) -> None:
    chart = HeatMap(
        title="h", x="lr", y="", columns=("a", "b"), rows=("r",), values=((scale, 2 * scale),),
        higher=True,
    )  # fmt: skip
    texts = re.findall(r"[>]([-.e0-9]+)</text>", str(draw(chart)))
    assert [float(text) for text in texts] == pytest.approx([scale, 2 * scale], rel=0.05)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94, ".94"),
        (0.5, ".50"),
        (0.504, ".504"),
        (0.4999, ".4999"),
        (1.0, "1.00"),
        (0.998, ".998"),
    ],
)
def test_a_probability_does_not_look_like_another(value: float, text: str) -> None:
    assert probability(value) == text
