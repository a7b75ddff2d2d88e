"""Sections of a report are components: one file each in `harness/report/sections/`, offering
`SECTION`, and found there with no other line changed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.analysis.comparison import Comparison
from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.text import plural
from harness.report.blocks import Block, Folded, Paragraph
from harness.report.figures import Figure


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report.

    name: its key in JSON. title: its heading; empty for none. place: sections stand in this order.
    record: what it says, as a dataclass of plain values (None for what is missing), which is what
        JSON holds and tests read; None where it has nothing to say.
    blocks: that record for people to read.
    figures: that record as figures, which HTML draws.
    folded: long texts of that record, for HTML.
    brief: whether it stands in a report for a terminal when nobody asks for more.
    """

    name: str
    title: str
    place: int
    record: Callable[[Comparison], Any | None]
    blocks: Callable[[Any], tuple[Block, ...]]
    figures: Callable[[Any], tuple[Figure, ...]] | None = None
    folded: Callable[[Any], tuple[Folded, ...]] | None = None
    brief: bool = False


def of_points(tried: int) -> tuple[Paragraph, ...]:
    """What a section says that shows a search's points. tried: how many; 0 where it does not."""
    if not tried:
        return ()
    points = plural(tried, "point")
    return (Paragraph(f"Of the {points} that the search tried, not of the trials compared."),)


def points_of(comparison: Comparison) -> int:
    """How many points a search tried."""
    return len(comparison.tuning.trials) if comparison.tuning else 0


@cache
def sections() -> tuple[Section, ...]:
    """All sections in their order."""
    package = importlib.import_module("harness.report.sections")
    found = [
        importlib.import_module(f"{package.__name__}.{module.name}").SECTION
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted(found, key=lambda section: section.place))


def chosen(names: Iterable[str]) -> tuple[Section, ...]:
    """Sections by name, in their order: the brief ones for none, all of them for "all". Raises
    InputError, with the closest name, for one that is not there."""
    asked = set(names)
    if not asked:
        return tuple(section for section in sections() if section.brief)
    known = {section.name for section in sections()}
    unknown = sorted(asked - known - {"all"})
    if unknown:
        raise InputError(
            [Problem(f"--section: no section {n!r}", hint=did_you_mean(n, known)) for n in unknown]
        )
    return tuple(s for s in sections() if "all" in asked or s.name in asked)
