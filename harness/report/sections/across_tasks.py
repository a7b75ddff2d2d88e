"""Contenders over all tasks: interquartile mean, average rank, and the critical difference."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.contenders import AverageRank, rank_contenders
from harness.analysis.statistics import Friedman, friedman_test
from harness.analysis.tournament import make_tournament
from harness.core.text import join_with_and, plural
from harness.report.blocks import Block, Paragraph, ReportTable, columns
from harness.report.figures import CriticalDifferenceDiagram, Figure, ForestPlot, ForestRow
from harness.report.formatting import bracketed, decimals_for, p_value, significant
from harness.report.section import Section

FEWEST_TASKS = 2


@dataclass(frozen=True, slots=True)
class AcrossTasks:
    """tasks: those that all contenders finished; left_out: the others. standings: by rank."""

    metric: str
    tasks: tuple[str, ...]
    left_out: tuple[str, ...]
    contenders: tuple[str, ...]
    standings: tuple[AverageRank, ...]
    friedman: Friedman | None
    insufficient: str


def record(comparison: Comparison) -> AcrossTasks | None:
    tournament = make_tournament(comparison)
    if tournament is None or len(tournament.tasks) < FEWEST_TASKS:
        return None
    tasks = tournament.complete_tasks()
    left_out = tuple(task for task in tournament.tasks if task not in tasks)
    metric, names = tournament.metric, tournament.contenders
    if len(tasks) < FEWEST_TASKS:
        finished = f"{plural(len(tasks), 'task')} finished by every contender"
        reason = f"{finished}, of {len(tournament.tasks)}"
        return AcrossTasks(metric, tasks, left_out, names, (), None, reason)
    ranks = rank_contenders(tournament, tasks, comparison.generator("across"))
    friedman = friedman_test(tournament.mean_scores(tasks), names, tournament.resolution)
    return AcrossTasks(metric, tasks, left_out, names, ranks, friedman, "")


def blocks(across: AcrossTasks) -> tuple[Block, ...]:
    if across.insufficient:
        return (Paragraph(f"Insufficient data: {across.insufficient}."),)
    decimals = decimals_for(ranked.iqm for ranked in across.standings)
    titles = ("average rank", f"IQM of {across.metric}", "interval")
    rows = tuple(
        (
            r.contender,
            f"{r.rank:.2f}",
            significant(r.iqm, decimals),
            bracketed(r.interval, decimals),
        )
        for r in across.standings
    )
    notes = [_friedman(across.friedman)]
    if all(ranked.iqm is None for ranked in across.standings):
        notes.append(f"No mean over tasks: {across.metric} has no scale that the tasks share.")
    if across.left_out:
        left_out = "; ".join(across.left_out)
        notes.append(f"Left out, not finished by every contender: {left_out}.")
    return (
        Paragraph(f"Over {plural(len(across.tasks), 'task')}: {'; '.join(across.tasks)}."),
        ReportTable(columns("contender", numeric=titles), rows),
        *map(Paragraph, notes),
    )


def figures(across: AcrossTasks) -> tuple[Figure, ...]:
    drawn: list[Figure] = []
    if across.friedman is not None:
        drawn.append(
            CriticalDifferenceDiagram(
                title="Average ranks and critical difference (Nemenyi, .05)",
                ranks=tuple((ranked.contender, ranked.rank) for ranked in across.standings),
                distance=across.friedman.critical_difference,
                groups=across.friedman.groups,
            )
        )
    if any(ranked.iqm is not None for ranked in across.standings):
        drawn.append(
            ForestPlot(
                title=f"Interquartile mean of {across.metric} over tasks",
                x=across.metric,
                rows=tuple(
                    ForestRow(r.contender, r.iqm, r.interval, r.contender) for r in across.standings
                ),
                groups=across.contenders,
            )
        )
    return tuple(drawn)


def _friedman(friedman: Friedman | None) -> str:
    if friedman is None:
        return "Friedman's test needs three contenders: insufficient data."
    result = (
        f"Friedman's test: χ² = {friedman.statistic:.2f}, p = {p_value(friedman.p)} on "
        f"{friedman.tasks} tasks. Average ranks differ if they lie more than "
        f"{friedman.critical_difference:.2f} apart"
    )
    if not friedman.groups:
        return f"{result}: all do."
    groups = "; ".join(join_with_and(group) for group in friedman.groups)
    return f"{result}. No difference shown between: {groups}."


SECTION = Section("across_tasks", "Across tasks", record, blocks, figures, order=60, brief=True)
