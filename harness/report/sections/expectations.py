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
    if not of.candidates:
        return "insufficient data: no such trial"
    without = _without_value(of)
    if of.mean is None:
        return f"insufficient data: no trial has it: {without}"
    if of.finding == "insufficient data":
        return f"insufficient data: {without}; the mean of the others lies within the tolerance"
    beyond = figure(abs(of.difference or 0.0) - of.tolerance, decimals)
    off = f"off by {signed(of.difference, decimals)} ({beyond} too far)"
    return off if of.complete else f"{off}, of the others: {without}"


def _without_value(of: PublishedFigure) -> str:
    """Returns "of 5 trials 1 diverged, 2 missing"."""
    counts = {
        "diverged": of.diverged,
        "failed": of.failed,
        "not finished": of.unfinished,
        "missing": of.missing,
    }
    counts["without the metric"] = of.trials + of.missing - of.n - sum(counts.values())
    parts = [f"{count} {what}" for what, count in counts.items() if count]
    return f"of {plural(of.trials + of.missing, 'trial')} {', '.join(parts)}"


SECTION = Section("expectations", "Published figures", record, blocks, order=110, brief=True)
