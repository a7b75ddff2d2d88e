"""The renderer of each kind of figure."""

from __future__ import annotations

from markupsafe import Markup

from harness.report.figures import (
    Bars,
    Figure,
    HeatMap,
    LineChart,
    Parallel,
    Ranges,
    RankLine,
    Scatter,
)
from harness.report.svg import charts
from harness.report.svg import panels as plates


def draw(figure: Figure) -> Markup:
    """A figure as an SVG element, with every text escaped."""
    match figure:
        case LineChart():
            return charts.lines(figure)
        case Ranges():
            return charts.ranges(figure)
        case Scatter():
            return charts.scatter(figure)
        case Bars():
            return charts.bars(figure)
        case RankLine():
            return plates.ranks(figure)
        case HeatMap():
            return plates.heat(figure)
        case Parallel():
            return plates.parallel(figure)
