"""Diagrams without plain axes: critical differences, heat map, parallel coordinates."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10

from markupsafe import Markup

from harness.report.figures import CriticalDifferenceDiagram, HeatMap, ParallelCoordinates
from harness.report.labels import shorten_labels
from harness.report.svg.canvas import CHARACTER, WIDTH, Canvas, Scale

SHADES = 6


def critical_differences(chart: CriticalDifferenceDiagram) -> Markup:
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


def heat_map(chart: HeatMap) -> Markup:
    """Each cell has a shade and a number; the best one is framed."""
    left = min(_width(chart.rows) + 14, 190)
    wide = (WIDTH - left - 6) / max(len(chart.columns), 1)
    high, top = 26.0, 44.0
    canvas = Canvas(top + high * len(chart.rows) + 8, chart.title)
    canvas.text(left, 16, chart.x, "name")
    known = [value for line in chart.values for value in line if value is not None]
    low, top_value = (min(known), max(known)) if known else (0.0, 1.0)
    decimals = _decimals(max(map(abs, known), default=0.0))
    best = (top_value if chart.higher else low) if known else None
    for j, column in enumerate(chart.columns):
        canvas.text(left + wide * (j + 0.5), 36, column, "tick", "middle")
    for i, (row, line) in enumerate(zip(chart.rows, chart.values, strict=True)):
        canvas.text(left - 6, top + high * i + 17, row, "tick", "end")
        for j, value in enumerate(line):
            x, y = left + wide * j, top + high * i
            title = f"{row}, {chart.x} {chart.columns[j]}"
            if value is None:
                canvas.rect(x, y, wide - 2, high - 2, "cell none", f"{title}: none")
                canvas.text(x + wide / 2 - 1, y + 17, "–", "tick", "middle")
                continue
            part = (value - low) / ((top_value - low) or 1)
            shade = round((part if chart.higher else 1 - part) * (SHADES - 1))
            kind = f"cell h{shade}" + (" best" if value == best else "")
            canvas.rect(x, y, wide - 2, high - 2, kind, f"{title}: {value:.6g}")
            ink = "on-dark" if shade >= SHADES // 2 else "on-light"
            canvas.text(x + wide / 2 - 1, y + 17, f"{value:.{decimals}f}", f"tick {ink}", "middle")
    return canvas.svg()


def parallel_coordinates(chart: ParallelCoordinates) -> Markup:
    """Each config is a line, shaded by its score; the best ones lie on top."""
    high, top = 200.0, 44.0
    canvas = Canvas(top + high + 18, chart.title, width=max(WIDTH, 110 * len(chart.axes)))
    gap = (canvas.width - 120) / max(len(chart.axes) - 1, 1)
    places = [46 + gap * i for i in range(len(chart.axes))]

    def y(part: float) -> float:
        return top + high * (1 - part)

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
        if x == places[0]:
            canvas.text(8, 18, name, "name")
        else:
            canvas.text(x, 18, name, "name", "middle")
        for text, (_, part) in zip(labels, few, strict=True):
            canvas.text(x + 5, y(part) + 4, text if len(text) < 15 else f"{text[:13]}…", "on-axis")
    return canvas.svg()


def _width(labels: Sequence[str]) -> float:
    return max((CHARACTER * len(label) for label in labels), default=0)


def _decimals(largest: float) -> int:
    """Returns the decimals that give the largest value three digits."""
    return min(max(2 - floor(log10(largest)), 0), 6) if largest else 2
