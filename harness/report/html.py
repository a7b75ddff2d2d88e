"""A report as one HTML file that loads nothing: style, script, figures and data are inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from harness import __version__
from harness.analysis.comparison import Question
from harness.report.blocks import ReportTable, clean
from harness.report.section import Report, build_report, sections
from harness.report.svg import draw
from harness.store.read.results import Results
from harness.store.store import Store

TEMPLATES = Path(__file__).parent / "templates"
REPORT_FILE = "report.html"


def html(reports: Sequence[Report]) -> str:
    """Returns the reports as one page. Text from the store is escaped everywhere, and the page's
    content policy lets no script run but its own and no address be loaded."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined
    )
    script = _template_file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html.j2").render(
        reports=reports,
        version=__version__,
        page_style=_template_file("report.css"),
        figure_style=_template_file("figure.css"),
        script=script,
        script_hash=f"sha256-{digest}",
        clean=clean,
        draw=draw,
        rows_json=rows_json,
    )


def attach_report(store: Store, results: Results, question: Question) -> None:
    """Stores the whole report on the newest sweep's run, where MLflow's UI shows it. Does nothing
    if there is no such run. Raises StoreError if the store cannot be written."""
    if results.parent_id:
        page = html([build_report(results, question, sections())])
        store.attach(results.parent_id, REPORT_FILE, page)


def rows_json(table: ReportTable) -> Markup:
    """Returns a table's rows as JSON that cannot end its script element, whatever is in them."""
    rows = [[clean(cell) for cell in row] for row in table.rows]
    return htmlsafe_json_dumps(rows, ensure_ascii=False, separators=(",", ":"))


def _template_file(name: str) -> Markup:
    return Markup((TEMPLATES / name).read_text(encoding="utf-8"))  # noqa: S704 - this package's
