"""Figures as plain records: what is drawn, and the same as a table. Drawn in `report.svg`."""

from __future__ import annotations

from dataclasses import dataclass

from harness.report.blocks import Column, Table
from harness.report.numbers import MISSING


@dataclass(frozen=True, slots=True)
class Point:
    """low, high: of the band or interval; None where there is none."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Line:
    name: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LineChart:
    """Lines with bands. steps: drawn as a step function. band: what the band is, in words."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    log_x: bool = False
    steps: bool = False
    band: str = ""

    def table(self) -> Table:
        columns = (Column("line"), *(Column(name, numeric=True) for name in (self.x, self.y)))
        banded = any(point.low is not None for line in self.lines for point in line.points)
        if banded:
            columns = (*columns, Column("low", numeric=True), Column("high", numeric=True))
        rows = [
            (line.name, plain(p.x), plain(p.y), *((plain(p.low), plain(p.high)) if banded else ()))
            for line in self.lines
            for p in line.points
        ]
        return Table(columns, tuple(rows))


@dataclass(frozen=True, slots=True)
class Range:
    """A value with its interval; group: what colours it."""

    label: str
    value: float | None
    low: float | None
    high: float | None
    group: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Values with intervals, one below the other. reference: a line to compare with. groups: in the
    order of their colours, which all figures of a report share; by default as they come."""

    title: str
    x: str
    ranges: tuple[Range, ...]
    reference: float | None = None
    groups: tuple[str, ...] = ()

    def table(self) -> Table:
        columns = (
            Column("of"),
            Column(self.x, numeric=True),
            Column("low", numeric=True),
            Column("high", numeric=True),
        )
        rows = tuple((r.label, plain(r.value), plain(r.low), plain(r.high)) for r in self.ranges)
        return Table(columns, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class RankLine:
    """A critical-difference diagram. groups: names that do not differ."""

    title: str
    ranks: tuple[tuple[str, float], ...]
    distance: float
    groups: tuple[tuple[str, ...], ...]

    def table(self) -> Table:
        rows = tuple((name, plain(rank)) for name, rank in self.ranks)
        return Table((Column("contender"), Column("average rank", numeric=True)), rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """values [row][column]; None is an empty cell. higher: whether higher is better."""

    title: str
    x: str
    y: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[float | None, ...], ...]
    higher: bool

    def table(self) -> Table:
        columns = (Column(self.y), *(Column(name, numeric=True) for name in self.columns))
        rows = tuple(
            (name, *(plain(value) for value in line))
            for name, line in zip(self.rows, self.values, strict=True)
        )
        return Table(columns, rows)


@dataclass(frozen=True, slots=True)
class ParallelAxis:
    """ticks: (text, place from 0 below to 1 above)."""

    name: str
    ticks: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """Parallel coordinates: one line a config over all axes, the last of which is the score.

    lines: places on each axis, 0 to 1, the worst first. texts: the same as text. left_out: lines.
    """

    title: str
    axes: tuple[ParallelAxis, ...]
    lines: tuple[tuple[float, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    left_out: int = 0

    def table(self) -> Table:
        return Table(tuple(Column(axis.name) for axis in self.axes), tuple(reversed(self.texts)))


@dataclass(frozen=True, slots=True)
class Dot:
    x: float
    y: float
    label: str
    group: str
    front: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """Points, those of the Pareto front joined by a line. groups: as in `Ranges`."""

    title: str
    x: str
    y: str
    dots: tuple[Dot, ...]
    groups: tuple[str, ...] = ()

    def table(self) -> Table:
        columns = (
            Column("config"),
            Column(self.x, numeric=True),
            Column(self.y, numeric=True),
            Column("front"),
        )
        rows = tuple(
            (dot.label, plain(dot.x), plain(dot.y), "yes" if dot.front else "")
            for dot in sorted(self.dots, key=lambda dot: (not dot.front, dot.x))
        )
        return Table(columns, rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bars:
    """Shares from 0 to 1."""

    title: str
    x: str
    bars: tuple[tuple[str, float], ...]

    def table(self) -> Table:
        rows = tuple((name, plain(value)) for name, value in self.bars)
        return Table((Column("of"), Column(self.x, numeric=True)), rows)


Figure = LineChart | Ranges | RankLine | HeatMap | Parallel | Scatter | Bars


def plain(value: float | None) -> str:
    """A number for a table of data: six digits."""
    return MISSING if value is None else f"{value:.6g}"
