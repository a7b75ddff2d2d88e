"""A report: what every section says of one experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.comparison import Comparison, Question, compare
from harness.report.blocks import Block, Folded
from harness.report.figures import Figure
from harness.report.section import Section, chosen
from harness.store.read.results import Results


@dataclass(frozen=True, slots=True)
class Part:
    """A section that has something to say."""

    section: Section
    record: Any

    def blocks(self) -> tuple[Block, ...]:
        return self.section.blocks(self.record)

    def figures(self) -> tuple[Figure, ...]:
        return self.section.figures(self.record) if self.section.figures else ()

    def folded(self) -> tuple[Folded, ...]:
        return self.section.folded(self.record) if self.section.folded else ()


@dataclass(frozen=True, slots=True)
class Report:
    """An experiment's report, in no format yet."""

    experiment: str
    comparison: Comparison
    parts: tuple[Part, ...]

    def record(self, name: str) -> Any:
        """The record of a section, None where it has nothing to say."""
        return next((part.record for part in self.parts if part.section.name == name), None)


def build_report(
    results: Results, question: Question | None = None, of: Sequence[Section] | None = None
) -> Report:
    """Compare an experiment's trials. of: the sections to make; by default the brief ones.

    Raises InputError for a question they cannot answer.
    """
    comparison = compare(results, question or Question())
    wanted = chosen(()) if of is None else of
    records = ((section, section.record(comparison)) for section in wanted)
    parts = tuple(Part(section, record) for section, record in records if record is not None)
    return Report(comparison.experiment, comparison, parts)
