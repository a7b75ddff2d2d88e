"""Properties of the HTML file that need no browser: self-contained, escaped, small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from harness.analysis.statistics import Interval
from harness.report.blocks import Column, ReportTable, clean
from harness.report.canvas import fit_scale, log_ticks, ticks
from harness.report.figures import (
    BarChart,
    CriticalDifferenceDiagram,
    ForestPlot,
    ForestRow,
    HeatMap,
    LineChart,
    LineSeries,
    ParallelAxis,
    ParallelCoordinates,
    Point,
    ScatterPlot,
    ScatterPoint,
)
from harness.report.html import html, rows_json
from harness.report.svg import draw
from tests.report_support import full_grid, whole_report
from tests.stored import results, trial_run

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\u2028"


@pytest.fixture(scope="module")
def page() -> str:
    return html([whole_report(full_grid())])


class Reader(HTMLParser):
    """Collects what a browser would load, run or jump to."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.append(attributes["id"] or "")
        self.links += [attributes["href"] or ""] if tag == "a" and "href" in attributes else []
        self.loads += [v or "" for k, v in attrs if k == "src" or (k == "href" and tag != "a")]
        self.handlers += [k for k, _ in attrs if k.startswith("on") or k == "style"]


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    return reader


def test_nothing_is_loaded_and_no_script_is_inline_in_an_attribute(page: str) -> None:
    found = read(page)
    assert set(found.loads) == {"data:,"}
    assert found.handlers == []
    assert not re.search(r"@import|url\(", page)


def test_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    found = read(page)
    assert len(set(found.ids)) == len(found.ids)
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)


@pytest.mark.slow
def test_two_experiments_in_one_page_share_no_id() -> None:
    report = whole_report(full_grid())
    found = read(html([report, report]))
    assert len(set(found.ids)) == len(found.ids)


def test_the_policy_names_the_script_that_runs(page: str) -> None:
    import base64
    import hashlib

    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"'sha256-{digest}'" in page
    assert "default-src 'none'" in page


def test_json_cannot_leave_its_element() -> None:
    text = str(rows_json(ReportTable((Column("a"),), ((HOSTILE,),))))
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == [[clean(HOSTILE)]]


def test_a_long_table_is_stored_once_and_shown_in_part() -> None:
    table = ReportTable((Column("a"),), tuple((str(i),) for i in range(500)))
    assert len(json.loads(str(rows_json(table)))) == 500


def test_hostile_names_stay_text() -> None:
    runs = [
        trial_run(0.9, name=HOSTILE),
        trial_run(outcome="failed", status="FAILED", seed=1, name=HOSTILE,
                  tags={"harness.reason": HOSTILE}),
    ]  # fmt: skip
    page = html([whole_report(results(*runs))])
    assert "<img" not in page
    assert page.count("<script>") == 1


NO_INTERVAL = Interval(None, None, "degenerate")
FIGURES = [
    LineChart(
        title=HOSTILE, x="x", y="y", lines=(LineSeries(HOSTILE, (Point(1, 2, 1, 3), Point(2, 3))),)
    ),
    LineChart(
        title="one point", x="x", y="y", lines=(LineSeries("a", (Point(1, 0),)),), log_x=True
    ),
    LineChart(title="nothing", x="x", y="y", lines=()),
    LineChart(
        title="wide", x="x", y="y", lines=(LineSeries("a", (Point(0, 1e-9), Point(1, 1e300))),)
    ),
    ForestPlot(
        title="r",
        x="x",
        rows=(ForestRow(HOSTILE, 1, NO_INTERVAL), ForestRow("b", None, NO_INTERVAL)),
    ),
    ForestPlot(title="empty", x="x", rows=()),
    CriticalDifferenceDiagram(
        title="cd", ranks=((HOSTILE, 1.0), ("b", 2.0)), distance=9.0, groups=((HOSTILE, "b"),)
    ),
    HeatMap(
        title="h", x="x", y="y", columns=(HOSTILE,), rows=("a",), values=((None,),), higher=True
    ),
    HeatMap(
        title="h", x="x", y="y", columns=("a", "b"), rows=("a",), values=((1.0, 1.0),), higher=False
    ),
    ParallelCoordinates(
        title="p",
        axes=(ParallelAxis(HOSTILE, ((HOSTILE, 0.0),)),) * 2,
        lines=((0.0, 1.0),),
        texts=((HOSTILE, "1"),),
    ),
    ScatterPlot(title="s", x="x", y="y", points=(ScatterPoint(0, 0, HOSTILE, HOSTILE, True),)),
    ScatterPlot(title="s", x="x", y="y", points=()),
    BarChart(title="b", x="x", bars=((HOSTILE, 2.0), ("b", -1.0))),
]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda f: f"{type(f).__name__} {f.title[:8]}")
def test_every_figure_is_well_formed_xml_without_markup_of_its_names(figure: object) -> None:
    import xml.etree.ElementTree as ElementTree

    svg = str(draw(figure))  # type: ignore[arg-type]
    root = ElementTree.fromstring(svg)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags <= {"svg", "line", "text", "path", "rect", "title"}
    assert root.get("role") == "img"
    assert "nan" not in svg
    assert "inf" not in svg.replace("infinite", "")


def test_ticks_are_round_and_within() -> None:
    assert ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert ticks(0.913, 0.988, 4) == [0.92, 0.94, 0.96, 0.98]
    assert log_ticks(0.0009, 11) == [0.001, 0.01, 0.1, 1.0, 10.0]


def test_a_scale_is_linear_or_logarithmic() -> None:
    linear = fit_scale([0.0, 10.0], 0, 110)
    assert linear(5) == pytest.approx(55)
    log = fit_scale([1.0, 100.0], 0, 100, log=True)
    assert log(10) == pytest.approx(50)
