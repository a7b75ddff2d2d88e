"""A report, and its sections: each is one file in `harness/report/sections/` that offers `SECTION`.

Sections are discovered there. docs/adding-a-section.md shows a whole one.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from harness.analysis.comparison import Comparison, Question, compare
from harness.core.errors import require_known
from harness.core.text import plural
from harness.report.blocks import Block, Folded, Paragraph
from harness.report.figures import Figure
from harness.store.read.results import Results


@dataclass(frozen=True, slots=True)
class Section:
    """A section of a report.

    name: its name for `--section`, and its key in JSON.
    title: its heading; empty for none.
    record: returns what the section says as a dataclass of plain values, which JSON holds and tests
        read; None if it has nothing to say. Its annotation gives the JSON Schema.
    blocks, figures, folded: show that record as paragraphs and tables (at least one), as figures,
        and as long texts; figures and long texts are for HTML.
    order: sections are shown in ascending order of this number, each with one of its own.
    brief: whether a report on a terminal has the section when nobody asks for more.
    """

    name: str
    title: str
    record: Callable[[Comparison], Any | None]
    blocks: Callable[[Any], tuple[Block, ...]]
    figures: Callable[[Any], tuple[Figure, ...]] = lambda _: ()
    folded: Callable[[Any], tuple[Folded, ...]] = lambda _: ()
    order: int = field(kw_only=True)
    brief: bool = field(default=False, kw_only=True)


@cache
def sections() -> tuple[Section, ...]:
    """Returns all sections in their order."""
    package = importlib.import_module("harness.report.sections")
    modules = pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    discovered = [importlib.import_module(module.name).SECTION for module in modules]
    return tuple(sorted(discovered, key=lambda section: section.order))


def choose_sections(names: Iterable[str]) -> tuple[Section, ...]:
    """Returns sections by name, in their order: the brief ones for no name, all of them for "all".

    Raises InputError, with the closest name, for a section that does not exist.
    """
    chosen = set(names)
    if not chosen:
        return tuple(section for section in sections() if section.brief)
    known = {section.name for section in sections()}
    require_known(sorted(chosen - {"all"}), known, "--section: no section")
    return tuple(s for s in sections() if "all" in chosen or s.name in chosen)


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


def points_tried(comparison: Comparison) -> int:
    """Returns how many points a search tried; 0 without a search."""
    return len(comparison.tuning.trials) if comparison.tuning else 0


def about_points(tried: int) -> tuple[Paragraph, ...]:
    """Returns the sentence with which a section says that it shows a search's points.

    tried: how many; 0 if the section shows the trials that are compared.
    """
    if not tried:
        return ()
    points = plural(tried, "point")
    return (Paragraph(f"This is about the {points} that the search tried, not its final trials."),)
