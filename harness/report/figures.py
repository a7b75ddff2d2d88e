"""Figures as plain records: the data to draw, and its table. `svg.py` draws them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.statistics import Interval
from harness.report.blocks import ReportTable, columns
from harness.report.formatting import MISSING


@dataclass(frozen=True, slots=True)
class Point:
    """low, high: of the band or interval; None if there is none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class LineSeries:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines with bands. steps: drawn as step functions. band: what the bands show."""

    title: str
    x: str
    y: str
    lines: tuple[LineSeries, ...]
    log_x: bool = False
    steps: bool = False
    band: str = ""

    def table(self) -> ReportTable:
        points = [(line.name, point) for line in self.lines for point in line.points]
        has_band = any(point.low is not None for _, point in points)
        shown = ("x", "y", "low", "high") if has_band else ("x", "y")
        rows = tuple((name, *(_cell(getattr(p, of)) for of in shown)) for name, p in points)
        return ReportTable(columns("line", numeric=(self.x, self.y, *shown[2:])), rows)


@dataclass(frozen=True, slots=True)
class ForestRow:
    """A value with its interval. group: what colours it."""

    label: str
    value: float | None
    interval: Interval
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestPlot:
    """Values with intervals, one below the other.

    reference: a value to compare with. groups: in the order of their colours, which all figures of
    a report share; by default in the order of the rows.
    """

    title: str
    x: str
    rows: tuple[ForestRow, ...]
    reference: float | None = None
    groups: tuple[str, ...] = ()

    def table(self) -> ReportTable:
        rows = tuple(
            (r.label, _cell(r.value), _cell(r.interval.low), _cell(r.interval.high))
            for r in self.rows
        )
        return ReportTable(columns("of", numeric=(self.x, "low", "high")), rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class CriticalDifferenceDiagram:
    """Average ranks on an axis. groups: contenders that do not differ."""

    title: str
    ranks: tuple[tuple[str, float], ...]
    distance: float
    groups: tuple[tuple[str, ...], ...]

    def table(self) -> ReportTable:
        rows = tuple((name, _cell(rank)) for name, rank in self.ranks)
        return ReportTable(columns("contender", numeric=("average rank",)), rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """values [row][column]; None is an empty cell. higher: whether higher is better.

    note: what a value is. details: [row][column], what each value is, such as "mean of 5 seeds".
    best, partial: cells as (row, column): those that are framed, and those with a "*".
    """

    title: str
    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    higher: bool
    note: str = ""
    details: tuple[tuple[str, ...], ...] = ()
    best: frozenset[tuple[int, int]] = frozenset()
    partial: frozenset[tuple[int, int]] = frozenset()

    def star(self, row: int, column: int) -> str:
        return "*" if (row, column) in self.partial else ""

    def table(self) -> ReportTable:
        cells = [
            tuple(_cell(value) + self.star(i, j) for j, value in enumerate(values))
            for i, values in enumerate(self.values)
        ]
        rows = tuple((name, *row) for name, row in zip(self.rows, cells, strict=True))
        return ReportTable(columns(self.y, numeric=self.columns), rows)


@dataclass(frozen=True, slots=True)
class ParallelAxis:
    """ticks: (text, position from 0 at the bottom to 1 at the top)."""

    name: str
    ticks: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ParallelCoordinates:
    """One line for each config over all axes, the last of which is the score.

    lines: positions on each axis, 0 to 1, the worst config first. texts: the same as text.
    note: what a line is.
    """

    title: str
    axes: tuple[ParallelAxis, ...]
    lines: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    note: str = ""

    def table(self) -> ReportTable:
        return ReportTable(columns(*(axis.name for axis in self.axes)), self.texts[::-1])


@dataclass(frozen=True, slots=True)
class ScatterPoint:
    x: float
    y: float
    label: str
    group: str
    front: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ScatterPlot:
    """Points, those of the Pareto front joined by a line. groups: as in `ForestPlot`."""

    title: str
    x: str
    y: str
    points: tuple[ScatterPoint, ...]
    groups: tuple[str, ...] = ()

    def table(self) -> ReportTable:
        ordered = sorted(self.points, key=lambda point: (not point.front, point.x))
        rows = tuple((p.label, _cell(p.x), _cell(p.y), "yes" if p.front else "") for p in ordered)
        titles = (*columns("config", numeric=(self.x, self.y)), *columns("front"))
        return ReportTable(titles, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class BarChart:
    """Shares from 0 to 1."""

    title: str
    x: str
    bars: tuple[tuple[str, float], ...]

    def table(self) -> ReportTable:
        rows = tuple((name, _cell(value)) for name, value in self.bars)
        return ReportTable(columns("of", numeric=(self.x,)), rows)


Figure = (
    LineChart
    | ForestPlot
    | CriticalDifferenceDiagram
    | HeatMap
    | ParallelCoordinates
    | ScatterPlot
    | BarChart
)


def _cell(value: float | None) -> str:
    """Returns a number with six digits."""
    return MISSING if value is None else f"{value:.6g}"
