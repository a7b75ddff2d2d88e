"""Published figures: reproduced, or off by how much."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.expectations import PublishedFigure
from harness.core.text import plural
from harness.report.blocks import Block, Column, Paragraph, ReportTable, columns
from harness.report.formatting import decimals_for, figure, signed, spread
from harness.report.section import Section

COLUMNS = (*columns("figure", numeric=("published", "ours", "n")), Column("verdict"))


@dataclass(frozen=True, slots=True)
class Expectations:
    """Each published figure beside ours, in the file's order."""

    figures: tuple[PublishedFigure, ...]


def record(comparison: Comparison) -> Expectations | None:
    return Expectations(comparison.expectations) if comparison.expectations else None


def blocks(expectations: Expectations) -> tuple[Block, ...]:
    published = expectations.figures
    sources = dict.fromkeys(of.source for of in published if of.source)
    notes = [f"Source: {source}" for source in sources]
    candidates = max((of.candidates for of in published if of.n), default=0)
    if candidates > 1:
        notes.append(
            f"Up to {plural(candidates, 'config')} meet a figure's conditions; ours is the best of "
            "them on the experiment's own metric."
        )
    return (ReportTable(COLUMNS, tuple(map(_row, published))), *map(Paragraph, notes))


def _row(of: PublishedFigure) -> tuple[str, ...]:
    decimals = decimals_for([of.value])
    name = f"{of.metric} ({of.where})" if of.where else of.metric
    published = f"{of.value:g} ± {of.tolerance:g}"
    return name, published, spread(of.mean, of.sd, decimals), str(of.n), _finding(of, decimals)


def _finding(of: PublishedFigure, decimals: int) -> str:
    if of.finding == "reproduced":
        return "reproduced"
    if of.difference is not None:
        beyond = figure(abs(of.difference) - of.tolerance, decimals)
        return f"off by {signed(of.difference, decimals)} ({beyond} too far)"
    if not of.candidates:
        return "insufficient data: no such trial"
    diverged = f", {of.diverged} of {of.trials} diverged" if of.diverged else ""
    return f"insufficient data: no trial has it{diverged}"


SECTION = Section("expectations", "Published figures", record, blocks, order=110, brief=True)
