"""A report as one HTML file that loads nothing: style, script, figures and data are inside."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from harness import __version__
from harness.analysis.comparison import Question
from harness.report.blocks import ReportTable
from harness.report.build import Report, build_report
from harness.report.escaping import clean
from harness.report.figures import Figure, LineChart
from harness.report.section import sections
from harness.report.svg import draw
from harness.store.read.results import Results
from harness.store.store import Store
from harness.store.write.files import attach

TEMPLATES = Path(__file__).parent / "templates"
REPORT_FILE = "report.html"
FIRST_ROWS = 50
"""Rows of a table that a page without a script shows; a longer table has all rows in JSON."""
FILTERABLE = 12
"""Rows from which a table can be filtered."""


def html(reports: Sequence[Report]) -> str:
    """Returns the reports as one page. Text from the store is escaped everywhere, and the page's
    content policy lets no script run but its own and no address be loaded."""
    script = _template_file("report.js")
    names = [clean(report.experiment) for report in reports]
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=f"{', '.join(names)} – comparison",
            articles=[_article(f"r{place}", report) for place, report in enumerate(reports)],
            version=__version__,
            page_style=_template_file("report.css"),
            figure_style=_template_file("figure.css"),
            script=script,
            script_hash=_hash(script),
            first=FIRST_ROWS,
            most=FILTERABLE,
            clean=clean,
            rows_json=rows_json,
        )
    )


def attach_report(store: Store, results: Results, question: Question) -> None:
    """Stores the whole report on the newest sweep's run, where MLflow's UI shows it. Does nothing
    if there is no such run. Raises StoreError if the store cannot be written."""
    if results.parent_id:
        page = html([build_report(results, question, sections())])
        attach(store, results.parent_id, REPORT_FILE, page)


def rows_json(table: ReportTable) -> Markup:
    """Returns a table's rows as JSON that cannot end its script element, whatever is in them."""
    return embedded([[clean(cell) for cell in row] for row in table.rows])


def embedded(value: object) -> Markup:
    """Returns JSON for a `<script type="application/json">`, with `<`, `>` and `&` escaped."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704 - escaped above


def _article(article_id: str, report: Report) -> dict[str, Any]:
    """Returns what the template shows of a report."""
    parts = []
    for section, record in report.parts:
        section_id = f"{article_id}-{section.name}"
        drawn = enumerate(section.figures(record))
        parts.append(
            {
                "id": section_id,
                "title": section.title,
                "blocks": section.blocks(record),
                "figures": [_drawing(f"{section_id}-{place}", figure) for place, figure in drawn],
                "folded": section.folded(record),
            }
        )
    return {"id": article_id, "name": clean(report.experiment), "parts": parts}


def _drawing(figure_id: str, figure: Figure) -> dict[str, Any]:
    note = f"Band: {figure.band}." if isinstance(figure, LineChart) and figure.band else ""
    content = {"title": figure.title, "note": note, "svg": draw(figure), "table": figure.table()}
    return {"id": figure_id, **content}


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )


def _template_file(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - this package's


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"sha256-{base64.b64encode(digest).decode()}"
