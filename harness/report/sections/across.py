"""Contenders over all tasks: interquartile mean, average rank, and the critical difference."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.across import Friedman, Standing, friedman, standings
from harness.analysis.comparison import Comparison
from harness.analysis.tournament import tournament
from harness.core.text import join_with_and, plural
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Figure, Range, Ranges, RankLine
from harness.report.intervals import bracketed, p_value
from harness.report.numbers import decimals_for, figure
from harness.report.section import Section

FEWEST_TASKS = 2


@dataclass(frozen=True, slots=True)
class Across:
    """tasks: those that all contenders finished; left_out: the others. standings: by rank."""

    metric: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    contenders: tuple[str, ...]
    standings: tuple[Standing, ...]
    friedman: Friedman | None
    insufficient: str


def record(comparison: Comparison) -> Across | None:
    games = tournament(comparison)
    if games is None or len(games.tasks) < FEWEST_TASKS:
        return None
    tasks = games.complete()
    left_out = tuple(task for task in games.tasks if task not in tasks)
    if len(tasks) < FEWEST_TASKS:
        reason = f"{plural(len(tasks), 'task')} finished by every contender, of {len(games.tasks)}"
        return Across(games.metric, tasks, left_out, games.contenders, (), None, reason)
    found = standings(games, tasks, comparison.generator("across"))
    different = friedman(games, tasks)
    return Across(games.metric, tasks, left_out, games.contenders, found, different, "")


def blocks(across: Across) -> tuple[Block, ...]:
    if across.insufficient:
        return (Paragraph(f"Insufficient data: {across.insufficient}."),)
    decimals = decimals_for(standing.iqm for standing in across.standings)
    columns = (
        Column("contender"),
        Column("average rank", numeric=True),
        Column(f"IQM of {across.metric}", numeric=True),
        Column("interval", numeric=True),
    )
    rows = tuple(
        (s.contender, f"{s.rank:.2f}", figure(s.iqm, decimals), bracketed(s.interval, decimals))
        for s in across.standings
    )
    intro = f"Over {plural(len(across.tasks), 'task')}: {'; '.join(across.tasks)}."
    notes = [Paragraph(_differ(across.friedman))]
    if all(standing.iqm is None for standing in across.standings):
        notes.append(
            Paragraph(f"No mean over tasks: {across.metric} has no scale that they share.")
        )
    if across.left_out:
        notes.append(
            Paragraph(f"Left out, not finished by every contender: {'; '.join(across.left_out)}.")
        )
    return (Paragraph(intro), Table(columns, rows), *notes)


def figures(across: Across) -> tuple[Figure, ...]:
    made: list[Figure] = []
    if across.friedman is not None:
        made.append(
            RankLine(
                title="Average ranks and critical difference (Nemenyi, .05)",
                ranks=tuple((s.contender, s.rank) for s in across.standings),
                distance=across.friedman.critical_difference,
                groups=across.friedman.groups,
            )
        )
    if any(standing.iqm is not None for standing in across.standings):
        made.append(
            Ranges(
                title=f"Interquartile mean of {across.metric} over tasks",
                x=across.metric,
                ranges=tuple(
                    Range(s.contender, s.iqm, s.interval.low, s.interval.high, s.contender)
                    for s in across.standings
                ),
                groups=across.contenders,
            )
        )
    return tuple(made)


def _differ(found: Friedman | None) -> str:
    if found is None:
        return "Friedman's test needs three contenders: insufficient data."
    told = (
        f"Friedman: χ² = {found.statistic:.2f}, p = {p_value(found.p)} on {found.tasks} tasks. "
        f"Average ranks differ where they lie more than {found.critical_difference:.2f} apart"
    )
    if not found.groups:
        return f"{told}: all do."
    groups = "; ".join(join_with_and(group) for group in found.groups)
    return f"{told}. Not told apart: {groups}."


SECTION = Section(
    name="across_tasks",
    title="Across tasks",
    place=60,
    record=record,
    blocks=blocks,
    figures=figures,
    brief=True,
)
