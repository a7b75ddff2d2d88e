"""What a sweep ends with: the comparison of its own plan in short, and in full as its artifact."""

from __future__ import annotations

from harness.analysis.comparison import Question
from harness.report.build import build_report
from harness.report.html import html
from harness.report.section import sections
from harness.store.read.results import Results
from harness.store.store import Store
from harness.store.write.attach import attach

NAME = "report.html"


def attach_report(store: Store, results: Results, question: Question) -> None:
    """Store the whole report on the newest sweep's run, where MLflow's UI shows it; nothing where
    there is none. Raises StoreError where the store cannot be written."""
    if results.parent_id:
        page = html([build_report(results, question, sections())])
        attach(store, results.parent_id, NAME, page)
