"""Published figures: reproduced, or off by how much."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.expectations import Checked
from harness.core.text import plural
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.numbers import decimals_for, figure, signed, spread
from harness.report.section import Section

COLUMNS = (
    Column("figure"),
    Column("published", numeric=True),
    Column("ours", numeric=True),
    Column("n", numeric=True),
    Column("verdict"),
)


@dataclass(frozen=True, slots=True)
class Expectations:
    """Each published figure beside ours, in the file's order."""

    figures: tuple[Checked, ...]


def record(comparison: Comparison) -> Expectations | None:
    return Expectations(comparison.expectations) if comparison.expectations else None


def blocks(expectations: Expectations) -> tuple[Block, ...]:
    rows = tuple(_row(checked) for checked in expectations.figures)
    chosen = [checked for checked in expectations.figures if checked.candidates > 1 and checked.n]
    sources = dict.fromkeys(checked.source for checked in expectations.figures if checked.source)
    notes = [f"Source: {source}" for source in sources]
    if chosen:
        most = max(checked.candidates for checked in chosen)
        notes.append(
            f"Up to {plural(most, 'config')} fit a figure's conditions; ours is the best of them "
            "on the experiment's own metric."
        )
    return (Table(COLUMNS, rows), *(Paragraph(note) for note in notes))


def _row(checked: Checked) -> tuple[str, ...]:
    decimals = decimals_for([checked.value])
    name = f"{checked.metric} ({checked.where})" if checked.where else checked.metric
    published = f"{checked.value:g} ± {checked.tolerance:g}"
    ours = spread(checked.mean, checked.sd, decimals)
    return name, published, ours, str(checked.n), _finding(checked, decimals)


def _finding(checked: Checked, decimals: int) -> str:
    if checked.finding == "reproduced":
        return "reproduced"
    if checked.difference is not None:
        beyond = figure(abs(checked.difference) - checked.tolerance, decimals)
        return f"off by {signed(checked.difference, decimals)} ({beyond} too far)"
    if not checked.candidates:
        return "insufficient data: no such trial"
    diverged = f", {checked.diverged} of {checked.trials} diverged" if checked.diverged else ""
    return f"insufficient data: no trial has it{diverged}"


SECTION = Section(
    name="expectations",
    title="Published figures",
    place=110,
    record=record,
    blocks=blocks,
    brief=True,
)
