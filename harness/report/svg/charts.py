"""Charts with axes: lines with bands, points, values with intervals, bars."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import isfinite

from markupsafe import Markup

from harness.report.figures import BarChart, ForestPlot, LineChart, ScatterPlot
from harness.report.svg.canvas import (
    CHARACTER,
    COLOURS,
    WIDTH,
    Canvas,
    Scale,
    axes,
    fit_scale,
    legend_places,
    tick_text,
)

LEFT, RIGHT, TOP, PLOT = 62.0, 14.0, 26.0, 220.0
BAR_HEIGHT, ROW_HEIGHT = 24.0, 36.0
SPAN = 1e3
"""Ratio of the largest to the smallest value from which a positive axis is logarithmic."""


def line_chart(chart: LineChart) -> Markup:
    """Lines differ in marks and dashes as well as in colour."""
    points = [point for line in chart.lines for point in line.points]
    heights = [h for p in points for h in (p.y, p.low, p.high) if h is not None and isfinite(h)]
    names = [line.name for line in chart.lines]
    canvas, x, y = _plot(chart, names, [point.x for point in points], heights, chart.log_x)
    for series, line in enumerate(chart.lines):
        band = [p for p in line.points if p.low is not None and p.high is not None]
        if len(band) > 1:
            edge = [(x(p.x), y(p.high)) for p in band if p.high is not None]
            edge += [(x(p.x), y(p.low)) for p in reversed(band) if p.low is not None]
            canvas.path(edge, f"band s{series % COLOURS}", close=True)
    for series, line in enumerate(chart.lines):
        shown = [point for point in line.points if isfinite(point.y)]
        places = [(x(point.x), y(point.y)) for point in shown]
        kind = f"line s{series % COLOURS} d{series % 4}"
        canvas.path(_steps(places) if chart.steps else places, kind)
        if len(line.points) <= 30:
            for p, place in zip(shown, places, strict=True):
                values = f"{chart.x} {p.x:g}, {chart.y} {p.y:.4g}"
                canvas.mark(*place, series, f"{line.name}: {values}")
    return canvas.svg()


def scatter_plot(chart: ScatterPlot) -> Markup:
    """The front's points are emphasised, and joined by steps."""
    groups = list(dict.fromkeys((*chart.groups, *(point.group for point in chart.points))))
    names = [group or "all" for group in groups]
    costs, heights = [point.x for point in chart.points], [point.y for point in chart.points]
    canvas, x, y = _plot(chart, names, costs, heights, _many_decades(costs))
    front = sorted((point.x, point.y) for point in chart.points if point.front)
    canvas.path(_steps([(x(a), y(b)) for a, b in front]), "front")
    for point in sorted(chart.points, key=lambda point: point.front):
        kind = "mark" if point.front else "mark dim"
        title = f"{point.label}: {point.x:.4g}, {point.y:.4g}"
        canvas.mark(x(point.x), y(point.y), groups.index(point.group), title, kind)
    return canvas.svg()


def forest_plot(chart: ForestPlot) -> Markup:
    """Each name stands above its interval, so that long names fit."""
    bottom = TOP + ROW_HEIGHT * len(chart.rows)
    canvas = Canvas(bottom + 40, chart.title)
    ends = [v for r in chart.rows for v in (r.value, r.interval.low, r.interval.high)]
    values = [value for value in ends if value is not None]
    x = fit_scale(
        [*values, *([] if chart.reference is None else [chart.reference])], 20, WIDTH - 20
    )
    for tick in x.ticks():
        canvas.line(x(tick), TOP - 6, x(tick), bottom, "grid")
        canvas.text(x(tick), bottom + 16, tick_text(tick), "tick", "middle")
    canvas.text(WIDTH / 2, bottom + 34, chart.x, "name", "middle")
    if chart.reference is not None:
        canvas.line(x(chart.reference), TOP - 6, x(chart.reference), bottom, "axis")
    groups = list(dict.fromkeys((*chart.groups, *(row.group for row in chart.rows))))
    for place, row in enumerate(chart.rows):
        y = TOP + ROW_HEIGHT * (place + 1) - 12
        series = groups.index(row.group)
        canvas.text(20, y - 9, row.label, "tick")
        if row.value is None:
            canvas.text(20, y + 5, "insufficient data", "faint")
            continue
        low, high = row.interval.low, row.interval.high
        if low is not None and high is not None:
            canvas.line(x(low), y, x(high), y, f"range s{series % COLOURS}")
        canvas.mark(x(row.value), y, series, f"{row.label}: {row.value:.4g}")
    return canvas.svg()


def bar_chart(chart: BarChart) -> Markup:
    """Bars from 0 to 1, each with its number."""
    longest = max((CHARACTER * len(name) for name, _ in chart.bars), default=0)
    left = min(longest + 16, WIDTH / 2)
    canvas = Canvas(TOP + BAR_HEIGHT * len(chart.bars) + 14, chart.title)
    canvas.text(left, 14, chart.x, "name")
    for place, (name, value) in enumerate(chart.bars):
        y = TOP + BAR_HEIGHT * place
        length = (WIDTH - left - 60) * min(max(value, 0), 1)
        canvas.text(left - 6, y + 13, name, "tick", "end")
        canvas.rect(left, y + 2, max(length, 1), BAR_HEIGHT - 9, "bar s0", f"{name}: {value:.0%}")
        canvas.text(left + length + 6, y + 13, f"{value:.0%}", "tick")
    return canvas.svg()


def _plot(
    chart: LineChart | ScatterPlot,
    names: Sequence[str],
    x_values: Sequence[float],
    y_values: Sequence[float],
    log_x: bool,
) -> tuple[Canvas, Scale, Scale]:
    """Returns a canvas with two axes and a legend below them, and the axes' scales."""
    top = TOP + PLOT + 60
    places = legend_places(names, top)
    label = f"{chart.title}. Lines: {', '.join(names)}." if names else chart.title
    canvas = Canvas(max([y for _, y in places], default=top) + 6, label)
    x = fit_scale(x_values, LEFT, WIDTH - RIGHT, log_x)
    y = fit_scale(y_values, TOP + PLOT, TOP, _many_decades(y_values))
    axes(canvas, x, y, chart.x, chart.y)
    for series, (name, (left, baseline)) in enumerate(zip(names, places, strict=True)):
        canvas.mark(left + 5, baseline - 4, series)
        canvas.text(left + 14, baseline, name, "tick")
    return canvas, x, y


def _steps(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Returns a path that is level until the next place, then goes up or down."""
    stepped = list(places[:1])
    for (_, before), (x, y) in pairwise(places):
        stepped += [(x, before), (x, y)]
    return stepped


def _many_decades(values: Sequence[float]) -> bool:
    return bool(values) and min(values) > 0 and max(values) / min(values) > SPAN
