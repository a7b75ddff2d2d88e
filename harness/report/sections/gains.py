"""What tuning gained over each study's default, on fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.gains import Gain, Study, gains
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.intervals import bracketed
from harness.report.numbers import decimals_for, figure, signed
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class Gains:
    """seeds: the most that a study has of both."""

    studies: tuple[Study, ...]
    seeds: int


def record(comparison: Comparison) -> Gains | None:
    found = gains(comparison)
    if not found:
        return None
    return Gains(found, max(gain.n for study in found for gain in study.gains))


def blocks(found: Gains) -> tuple[Block, ...]:
    tasks = dict.fromkeys(study.task for study in found.studies)
    intro = (
        "Means over fresh seeds, on which nothing was chosen; the gain is paired by seed, with its "
        "95% interval."
    )
    tables = [
        _table(task if len(tasks) > 1 else "", [s for s in found.studies if s.task == task])
        for task in tasks
    ]
    notes = []
    if any(study.default_won for study in found.studies):
        won = ", ".join(study.study for study in found.studies if study.default_won)
        notes.append(f"Nothing better than the default was found: {won}.")
    if unfinished := sum(study.unfinished for study in found.studies):
        notes.append(f"Not done, and left out of means: {unfinished} trials.")
    return (Paragraph(intro), *tables, *map(Paragraph, notes))


def _table(task: str, studies: list[Study]) -> Table:
    columns = (
        Column("study"),
        Column("measure"),
        Column("default", numeric=True),
        Column("tuned", numeric=True),
        Column("gain", numeric=True),
        Column("n", numeric=True),
    )
    decimals = decimals_for(gain.tuned for study in studies for gain in study.gains)
    rows = tuple(
        (study.study if first else "", *_cells(gain, decimals))
        for study in studies
        for first, gain in ((gain is study.gains[0], gain) for gain in study.gains)
    )
    return Table(columns, rows, caption=task)


def _cells(gain: Gain, decimals: int) -> tuple[str, ...]:
    told = signed(gain.difference, decimals)
    if gain.difference is not None:
        told += f" {bracketed(gain.interval, decimals)}"
    return (
        gain.metric,
        figure(gain.default, decimals),
        figure(gain.tuned, decimals),
        told,
        str(gain.n),
    )


SECTION = Section(
    name="gains",
    title="Tuned against default",
    place=25,
    record=record,
    blocks=blocks,
    brief=True,
)
