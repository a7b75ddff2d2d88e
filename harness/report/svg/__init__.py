"""Draws figures as inline SVG: small, printable, and readable without a script."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from markupsafe import Markup

from harness.report import figures
from harness.report.svg import charts, diagrams

RENDERERS: dict[type, Callable[[Any], Markup]] = {
    figures.LineChart: charts.line_chart,
    figures.ForestPlot: charts.forest_plot,
    figures.ScatterPlot: charts.scatter_plot,
    figures.BarChart: charts.bar_chart,
    figures.CriticalDifferenceDiagram: diagrams.critical_differences,
    figures.HeatMap: diagrams.heat_map,
    figures.ParallelCoordinates: diagrams.parallel_coordinates,
}


def draw(figure: figures.Figure) -> Markup:
    """Returns a figure as an SVG element, with every text escaped."""
    return RENDERERS[type(figure)](figure)
