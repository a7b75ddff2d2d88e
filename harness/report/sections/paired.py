"""Every two contenders on the seeds that both have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.analysis.comparison import UNSEEDED, Comparison
from harness.analysis.contenders import Pair, compare_pairs
from harness.analysis.tournament import make_tournament
from harness.core.text import DECIMALS
from harness.report.blocks import Block, Paragraph, ReportTable, by_task, columns
from harness.report.figures import Figure, ForestPlot, ForestRow
from harness.report.formatting import (
    bracketed,
    decimals_for,
    p_value,
    probability,
    signed,
)
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class Paired:
    """direction: "max" if a higher metric is better. baseline: the contender in every pair; None
    for all pairs. insufficient: why no trials are paired; empty if they are."""

    metric: str
    direction: str
    baseline: str | None
    pairs: tuple[Pair, ...]
    insufficient: str = ""


def record(comparison: Comparison) -> Paired | None:
    tournament = make_tournament(comparison)
    if tournament is None:
        return None
    baseline, direction = comparison.question.baseline, comparison.score.direction
    if comparison.unseeded:
        return Paired(tournament.metric, direction, baseline, (), UNSEEDED)
    pairs = compare_pairs(tournament, comparison.generator("paired"), baseline)
    return Paired(tournament.metric, direction, baseline, pairs)


def blocks(paired: Paired) -> tuple[Block, ...]:
    if paired.insufficient:
        return (Paragraph(f"Insufficient data: {paired.insufficient}."),)
    if not paired.pairs:
        return (Paragraph("Insufficient data: no two contenders finished on one task."),)
    better = "higher" if paired.direction == "max" else "lower"
    intro = (
        f"Differences in {paired.metric} ({better} is better) by seed between the best configs, "
        "with a 95% bootstrap interval. P: probability that the first beats the second on a seed. "
        "p: Wilcoxon's, exact, after Holm's adjustment for all pairs of the task."
    )
    fewest, most = min(pair.n for pair in paired.pairs), max(pair.n for pair in paired.pairs)
    notes = ["Insufficient data: one seed allows no test."]
    if most > 1:
        floor = 2.0 ** (1 - most)
        claim = "so few seeds prove nothing" if floor > 0.05 else "n allows a claim"
        notes = [f"With n = {most} no unadjusted p can be below {p_value(floor)}: {claim} at .05."]
    if fewest < most:
        notes.append(f"Some pairs have only {fewest} seeds in common.")
    if any(pair.diverged for pair in paired.pairs):
        notes.append(
            "A trial that diverged is worse than any value in P and p, and has no difference."
        )
    tables = [_table(task, pairs) for task, pairs in by_task(paired.pairs).items()]
    return (Paragraph(intro), *tables, *map(Paragraph, notes))


def figures(paired: Paired) -> tuple[Figure, ...]:
    return tuple(
        ForestPlot(
            title=f"Paired differences{f' on {task}' if task else ''}",
            x=f"difference in {paired.metric}",
            rows=tuple(ForestRow(_name(pair), pair.difference, pair.interval) for pair in pairs),
            reference=0.0,
        )
        for task, pairs in by_task(paired.pairs).items()
    )


def _name(pair: Pair) -> str:
    return f"{pair.first} − {pair.second}"


def _table(task: str, pairs: Sequence[Pair]) -> ReportTable:
    largest = max(abs(pair.difference or 0.0) for pair in pairs)
    # One digit less than a score: the last digit of a difference over few seeds is noise.
    decimals = max(decimals_for([largest]) - 1, DECIMALS)
    rows = tuple(
        (
            _name(pair),
            signed(pair.difference, decimals),
            bracketed(pair.interval, decimals),
            probability(pair.better),
            str(pair.n),
            p_value(pair.holm),
        )
        for pair in pairs
    )
    titles = columns("pair", numeric=("difference", "interval", "P", "n", "p (Holm)"))
    return ReportTable(titles, rows, caption=task)


SECTION = Section("paired", "Pairs, seed by seed", record, blocks, figures, order=50)
