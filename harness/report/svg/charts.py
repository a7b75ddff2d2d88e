"""Charts with two axes: lines with bands, points, and values with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

from markupsafe import Markup

from harness.report.figures import Bars, LineChart, Point, Ranges, Scatter
from harness.report.svg.canvas import (
    CHARACTER,
    COLOURS,
    WIDTH,
    Canvas,
    axes,
    legend,
    legend_height,
    scale,
    told,
)

LEFT, RIGHT, TOP, PLOT = 62.0, 14.0, 26.0, 220.0
ROW = 24.0
SPAN = 1e3
"""Ratio of the largest to the smallest value from which a positive axis is logarithmic."""


def lines(chart: LineChart) -> Markup:
    """Marks and dashes tell lines apart where colours do not."""
    names = [line.name for line in chart.lines]
    canvas = Canvas(TOP + PLOT + 48 + legend_height(names), _label(chart.title, names))
    points = [point for line in chart.lines for point in line.points]
    x = scale([point.x for point in points], LEFT, WIDTH - RIGHT, chart.log_x)
    heights = [h for p in points for h in (p.y, p.low, p.high) if h is not None and isfinite(h)]
    y = scale(heights, TOP + PLOT, TOP, _many_decades(heights))
    axes(canvas, x, y, chart.x, chart.y)
    for series, line in enumerate(chart.lines):
        band = [p for p in line.points if p.low is not None and p.high is not None]
        if len(band) > 1:
            edge = [(x(p.x), y(p.high)) for p in band if p.high is not None]
            edge += [(x(p.x), y(p.low)) for p in reversed(band) if p.low is not None]
            canvas.path(edge, f"band s{series % COLOURS}", close=True)
    for series, line in enumerate(chart.lines):
        places = [(x(p.x), y(p.y)) for p in line.points if isfinite(p.y)]
        canvas.path(_steps(places) if chart.steps else places, _kind(series))
        if len(line.points) <= 30:
            for point, place in zip(line.points, places, strict=False):
                canvas.mark(*place, series, f"{line.name}: {_at(point, chart)}")
    legend(canvas, names, canvas.height - legend_height(names) + 12)
    return canvas.svg()


def ranges(chart: Ranges) -> Markup:
    """One row each, its name above its interval, so that long names fit."""
    high = ROW * 1.5
    canvas = Canvas(TOP + high * len(chart.ranges) + 40, _label(chart.title, ()))
    known = [v for r in chart.ranges for v in (r.value, r.low, r.high) if v is not None]
    if chart.reference is not None:
        known.append(chart.reference)
    x = scale(known, 20, WIDTH - 20)
    bottom = TOP + high * len(chart.ranges)
    for tick in x.ticks():
        canvas.line(x(tick), TOP - 6, x(tick), bottom, "grid")
        canvas.text(x(tick), bottom + 16, told(tick), "tick", "middle")
    canvas.text(WIDTH / 2, bottom + 34, chart.x, "name", "middle")
    if chart.reference is not None:
        canvas.line(x(chart.reference), TOP - 6, x(chart.reference), bottom, "axis")
    groups = list(dict.fromkeys((*chart.groups, *(r.group for r in chart.ranges))))
    for place, found in enumerate(chart.ranges):
        y = TOP + high * place + high - 12
        series = groups.index(found.group)
        canvas.text(20, y - 9, found.label, "tick")
        if found.value is None:
            canvas.text(20, y + 5, "insufficient data", "faint")
            continue
        if found.low is not None and found.high is not None:
            canvas.line(x(found.low), y, x(found.high), y, f"range s{series % COLOURS}")
        canvas.mark(x(found.value), y, series, f"{found.label}: {found.value:.4g}")
    return canvas.svg()


def scatter(chart: Scatter) -> Markup:
    """The front's points stand out, joined by steps."""
    names = list(dict.fromkeys((*chart.groups, *(dot.group for dot in chart.dots))))
    shown = [name or "all" for name in names]
    canvas = Canvas(TOP + PLOT + 48 + legend_height(shown), _label(chart.title, shown))
    costs = [dot.x for dot in chart.dots]
    x = scale(costs, LEFT, WIDTH - RIGHT, _many_decades(costs))
    heights = [dot.y for dot in chart.dots]
    y = scale(heights, TOP + PLOT, TOP, _many_decades(heights))
    axes(canvas, x, y, chart.x, chart.y)
    front = sorted((dot.x, dot.y) for dot in chart.dots if dot.front)
    canvas.path(_steps([(x(a), y(b)) for a, b in front]), "front")
    for dot in sorted(chart.dots, key=lambda dot: dot.front):
        kind = "mark" if dot.front else "mark dim"
        title = f"{dot.label}: {dot.x:.4g}, {dot.y:.4g}"
        canvas.mark(x(dot.x), y(dot.y), names.index(dot.group), title, kind)
    legend(canvas, shown, canvas.height - legend_height(shown) + 12)
    return canvas.svg()


def bars(chart: Bars) -> Markup:
    """From 0 to 1, each with its figure."""
    wide = max((CHARACTER * len(name) for name, _ in chart.bars), default=0)
    left = min(wide + 16, WIDTH / 2)
    canvas = Canvas(TOP + ROW * len(chart.bars) + 14, _label(chart.title, ()))
    canvas.text(left, 14, chart.x, "name")
    for place, (name, value) in enumerate(chart.bars):
        y = TOP + ROW * place
        length = (WIDTH - left - 60) * min(max(value, 0), 1)
        canvas.text(left - 6, y + 13, name, "tick", "end")
        canvas.rect(left, y + 2, max(length, 1), ROW - 9, "bar s0", f"{name}: {value:.0%}")
        canvas.text(left + length + 6, y + 13, f"{value:.0%}", "tick")
    return canvas.svg()


def _kind(series: int) -> str:
    return f"line s{series % COLOURS} d{series % 4}"


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Level until the next place, then up or down."""
    stepped = list(places[:1])
    for (_, before), (x, y) in pairwise(places):
        stepped += [(x, before), (x, y)]
    return stepped


def _many_decades(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > SPAN


def _at(point: Point, chart: LineChart) -> str:
    return f"{chart.x} {point.x:g}, {chart.y} {point.y:.4g}"


def _label(title: str, names: Sequence[str]) -> str:
    return f"{title}. Lines: {', '.join(names)}." if names else title
