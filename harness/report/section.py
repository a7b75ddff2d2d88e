"""Sections of a report are components: one file each in `harness/report/sections/`, offering
`SECTION`, and found there with no other line changed."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.analysis.comparison import Comparison
from harness.report.blocks import Block


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of a report.

    name: its key in JSON. title: its heading; empty for none. place: sections stand in this order.
    record: what it says, as a dataclass of plain values (None for what is missing), which is what
        JSON holds and tests read; None where it has nothing to say.
    blocks: that record for people to read.
    """

    name: str
    title: str
    place: int
    record: Callable[[Comparison], Any | None]
    blocks: Callable[[Any], tuple[Block, ...]]


@cache
def sections() -> tuple[Section, ...]:
    """All sections in their order."""
    package = importlib.import_module("harness.report.sections")
    found = [
        importlib.import_module(f"{package.__name__}.{module.name}").SECTION
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted(found, key=lambda section: section.place))
