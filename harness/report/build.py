"""Builds a report: what every section says of one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.comparison import Comparison, Question, compare
from harness.report.section import Section, choose_sections
from harness.store.read.results import Results


@dataclass(frozen=True, slots=True)
class Report:
    """An experiment's report, in no format yet. parts: each section that has something to say,
    with its record."""

    experiment: str
    comparison: Comparison
    parts: tuple[tuple[Section, Any], ...]

    def record(self, name: str) -> Any:
        """Returns the record of a section; None if it has nothing to say."""
        return next((record for section, record in self.parts if section.name == name), None)


def build_report(
    results: Results, question: Question | None = None, of: Sequence[Section] | None = None
) -> Report:
    """Compares an experiment's trials.

    of: the sections to make; by default the brief ones.

    Raises InputError for a question that the results cannot answer.
    """
    comparison = compare(results, question or Question())
    wanted = choose_sections(()) if of is None else of
    records = ((section, section.record(comparison)) for section in wanted)
    parts = tuple((section, record) for section, record in records if record is not None)
    return Report(comparison.experiment, comparison, parts)
