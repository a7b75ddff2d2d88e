"""Draws figures as inline SVG: small, printable, and readable without a script."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import floor, isfinite, log10
from typing import Any

from markupsafe import Markup

from harness.core.text import HUGE
from harness.report import figures
from harness.report.canvas import (
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
from harness.report.formatting import shorten_labels

LEFT, RIGHT, TOP, PLOT = 62.0, 14.0, 26.0, 220.0
BAR_HEIGHT, ROW_HEIGHT = 24.0, 36.0
SHADES = 6
MOST_DECIMALS = 5
"""Most decimals of a cell; a smaller number has a power of ten."""
SPAN = 1e3
"""Ratio of the largest to the smallest value from which a positive axis is logarithmic."""


def line_chart(chart: figures.LineChart) -> Markup:
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


def scatter_plot(chart: figures.ScatterPlot) -> Markup:
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


def forest_plot(chart: figures.ForestPlot) -> Markup:
    """Each name stands above its interval, so that long names fit."""
    bottom = TOP + ROW_HEIGHT * len(chart.rows)
    canvas = Canvas(bottom + 40, chart.title)
    ends = [v for r in chart.rows for v in (r.value, r.interval.low, r.interval.high)]
    values = [value for value in (*ends, chart.reference) if value is not None]
    x = fit_scale(values, 20, WIDTH - 20)
    for tick, text in x.ticks():
        canvas.line(x(tick), TOP - 6, x(tick), bottom, "grid")
        canvas.text(x(tick), bottom + 16, text, "tick", "middle")
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


def bar_chart(chart: figures.BarChart) -> Markup:
    """Bars from 0 to 1, each with its number."""
    left = min(_width([name for name, _ in chart.bars]) + 16, WIDTH / 2)
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
    chart: figures.LineChart | figures.ScatterPlot,
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


def critical_differences(chart: figures.CriticalDifferenceDiagram) -> Markup:
    """Demšar's diagram: rank 1 is on the left; a bar joins contenders that do not differ."""
    count = len(chart.ranks)
    bars = len(chart.groups)
    half = (count + 1) // 2
    top = 62.0
    first = top + 16 + 9 * bars
    canvas = Canvas(first + 22 * half + 8, chart.title)
    labels = [f"{name} {rank:.2f}" for name, rank in chart.ranks]
    # Labels stand beside the axis, so that no line to a rank crosses one.
    sides = [min(max(_width(side) + 16, 60), 190) for side in (labels[:half], labels[half:])]
    x = Scale(1, max(count, 2), sides[0], WIDTH - sides[1])
    canvas.line(x(1), top, x(x.high), top, "axis")
    for place in range(1, max(count, 2) + 1):
        canvas.line(x(place), top - 5, x(place), top, "axis")
        canvas.text(x(place), top - 10, str(place), "tick", "middle")
    reach = min(1 + chart.distance, x.high)
    canvas.line(x(1), 24, x(reach), 24, "range")
    more = " (beyond the axis)" if 1 + chart.distance > x.high else ""
    canvas.text(x(1), 16, f"critical difference {chart.distance:.2f}{more}", "tick")
    for place, (_, rank) in enumerate(chart.ranks):
        left = place < half
        row = place if left else count - 1 - place
        y = first + 22 * row + 8
        edge = 8 if left else WIDTH - 8
        canvas.path([(x(rank), top), (x(rank), y), (edge, y)], "lead")
        canvas.text(edge, y - 4, labels[place], "tick", "start" if left else "end")
    by_name = dict(chart.ranks)
    for place, group in enumerate(chart.groups):
        y = top + 10 + 9 * place
        places = [by_name[name] for name in group]
        canvas.line(x(min(places)) - 3, y, x(max(places)) + 3, y, "same")
    return canvas.svg()


def heat_map(chart: figures.HeatMap) -> Markup:
    """Each cell has a shade and a number; the best ones are framed."""
    left = min(_width(chart.rows) + 14, 190)
    wide = (WIDTH - left - 6) / max(len(chart.columns), 1)
    high, top = 26.0, 44.0
    canvas = Canvas(top + high * len(chart.rows) + 8, chart.title)
    canvas.text(left, 16, chart.x, "name")
    known = [value for line in chart.values for value in line if value is not None]
    low, top_value = (min(known), max(known)) if known else (0.0, 1.0)
    largest = max(map(abs, known), default=0.0)
    decimals = max(2 - floor(log10(largest)), 0) if largest else 2
    for j, column in enumerate(chart.columns):
        canvas.text(left + wide * (j + 0.5), 36, column, "tick", "middle")
    for i, (row, line) in enumerate(zip(chart.rows, chart.values, strict=True)):
        canvas.text(left - 6, top + high * i + 17, row, "tick", "end")
        for j, value in enumerate(line):
            x, y = left + wide * j, top + high * i
            title = f"{row}, {chart.x} {chart.columns[j]}"
            detail = f", {chart.details[i][j]}" if chart.details else ""
            if value is None:
                canvas.rect(x, y, wide - 2, high - 2, "cell none", f"{title}: none{detail}")
                canvas.text(x + wide / 2 - 1, y + 17, "–", "tick", "middle")
                continue
            part = (value - low) / ((top_value - low) or 1)
            shade = round((part if chart.higher else 1 - part) * (SHADES - 1))
            kind = f"cell h{shade}" + (" best" if (i, j) in chart.best else "")
            canvas.rect(x, y, wide - 2, high - 2, kind, f"{title}: {value:.6g}{detail}")
            ink = "on-dark" if shade >= SHADES // 2 else "on-light"
            text = f"{value:.{decimals}f}"
            if value and (decimals > MOST_DECIMALS or not float(text) or abs(value) >= HUGE):
                text = tick_text(value, abs(value) / 10)
            text += chart.star(i, j)
            canvas.text(x + wide / 2 - 1, y + 17, text, f"tick {ink}", "middle")
    return canvas.svg()


def parallel_coordinates(chart: figures.ParallelCoordinates) -> Markup:
    """Each config is a line, shaded by its score; the best ones lie on top."""
    high, top = 200.0, 44.0
    canvas = Canvas(top + high + 18, chart.title, width=max(WIDTH, 110 * len(chart.axes)))
    gap = (canvas.width - 120) / max(len(chart.axes) - 1, 1)
    places = [46 + gap * i for i in range(len(chart.axes))]

    y = Scale(0, 1, top + high, top)
    for line, texts in zip(chart.lines, chart.texts, strict=True):
        shade = round(line[-1] * (SHADES - 1))
        steps = "L".join(f"{x:.0f} {y(at):.1f}" for x, at in zip(places, line, strict=True))
        canvas.add(
            '<path d="M{}" class="course h{}"><title>{}</title></path>',
            steps,
            shade,
            ", ".join(texts),
        )
    for x, axis in zip(places, chart.axes, strict=True):
        canvas.line(x, top, x, top + high, "axis")
        few = axis.ticks if len(axis.ticks) <= 12 else axis.ticks[:: -(-len(axis.ticks) // 12)]
        name, labels = shorten_labels(axis.name, [text for text, _ in few])
        first = x == places[0]
        canvas.text(8 if first else x, 18, name, "name", "start" if first else "middle")
        for text, (_, part) in zip(labels, few, strict=True):
            canvas.text(x + 5, y(part) + 4, text if len(text) < 15 else f"{text[:13]}…", "on-axis")
    return canvas.svg()


def _width(labels: Sequence[str]) -> float:
    return max((CHARACTER * len(label) for label in labels), default=0)


RENDERERS: dict[type, Callable[[Any], Markup]] = {
    figures.LineChart: line_chart,
    figures.ForestPlot: forest_plot,
    figures.ScatterPlot: scatter_plot,
    figures.BarChart: bar_chart,
    figures.CriticalDifferenceDiagram: critical_differences,
    figures.HeatMap: heat_map,
    figures.ParallelCoordinates: parallel_coordinates,
}


def draw(figure: figures.Figure) -> Markup:
    """Returns a figure as an SVG element, with every text escaped."""
    return RENDERERS[type(figure)](figure)
