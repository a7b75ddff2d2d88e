"""A report as one HTML file that loads nothing: style, script, figures and data are inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.report.blocks import Block, Folded, Table
from harness.report.build import Part, Report
from harness.report.escaping import clean
from harness.report.figures import Figure, LineChart
from harness.report.svg.draw import draw

TEMPLATES = Path(__file__).parent / "templates"
FIRST_ROWS = 50
"""Rows of a table that stand in the page without a script; of a longer one, all are in JSON."""
FILTERABLE = 12
"""Rows from which a table can be filtered."""


@dataclass(frozen=True, slots=True)
class _Drawn:
    id: str
    title: str
    note: str
    svg: Markup
    table: Table


@dataclass(frozen=True, slots=True)
class _Section:
    id: str
    title: str
    blocks: tuple[Block, ...]
    figures: tuple[_Drawn, ...]
    folded: tuple[Folded, ...]


@dataclass(frozen=True, slots=True)
class _Article:
    id: str
    name: str
    parts: tuple[_Section, ...]


def html(reports: Sequence[Report]) -> str:
    """The reports as one page. Text from the store is escaped everywhere, and the page's policy
    lets no script run but its own and no address be loaded."""
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    names = [clean(report.experiment) for report in reports]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=f"{', '.join(names)} – comparison",
            articles=[_article(place, report) for place, report in enumerate(reports)],
            version=__version__,
            page_style=_own("report.css"),
            figure_style=_own("figure.css"),
            script=Markup(script),  # noqa: S704 - this package's own file
            script_hash=_hash(script),
            first=FIRST_ROWS,
            most=FILTERABLE,
            clean=clean,
            rows_json=rows_json,
        )
    )


def rows_json(table: Table) -> Markup:
    """A table's rows as JSON that cannot end its script element, whatever is in them."""
    return embedded([[clean(cell) for cell in row] for row in table.rows])


def embedded(value: object) -> Markup:
    """JSON for a `<script type="application/json">`: no `<`, `>` or `&` as such."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _article(place: int, report: Report) -> _Article:
    prefix = f"r{place}"
    parts = tuple(_section(prefix, part) for part in report.parts)
    return _Article(prefix, clean(report.experiment), parts)


def _section(prefix: str, part: Part) -> _Section:
    name = f"{prefix}-{part.section.name}"
    figures = tuple(_figures(name, part.figures()))
    return _Section(name, part.section.title, part.blocks(), figures, part.folded())


def _figures(prefix: str, figures: Iterable[Figure]) -> Iterator[_Drawn]:
    for place, figure in enumerate(figures):
        band = figure.band if isinstance(figure, LineChart) else ""
        note = f"Band: {band}." if band else ""
        yield _Drawn(f"{prefix}-{place}", figure.title, note, draw(figure), figure.table())


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )


def _own(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - this package's


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
