"""Every two contenders on the seeds that both have."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.paired import Pair, pairs
from harness.analysis.tournament import tournament
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Figure, Range, Ranges
from harness.report.intervals import bracketed, p_value, probability
from harness.report.numbers import DECIMALS, decimals_for, signed
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class Paired:
    """unfinished: contenders without a result, by task."""

    metric: str
    direction: str
    baseline: str | None
    pairs: tuple[Pair, ...]


def record(comparison: Comparison) -> Paired | None:
    games = tournament(comparison)
    if games is None:
        return None
    baseline = comparison.question.baseline
    found = pairs(games, comparison.generator("paired"), baseline)
    return Paired(games.metric, comparison.score.direction, baseline, found)


def blocks(paired: Paired) -> tuple[Block, ...]:
    if not paired.pairs:
        return (Paragraph("Insufficient data: no two contenders finished on one task."),)
    tasks = dict.fromkeys(pair.task for pair in paired.pairs)
    tables = [_table(task, [pair for pair in paired.pairs if pair.task == task]) for task in tasks]
    return (Paragraph(_intro(paired)), *tables, *map(Paragraph, _notes(paired)))


def figures(paired: Paired) -> tuple[Figure, ...]:
    tasks = dict.fromkeys(pair.task for pair in paired.pairs)
    return tuple(
        Ranges(
            title=f"Paired differences{f' on {task}' if task else ''}",
            x=f"difference in {paired.metric}",
            ranges=tuple(
                Range(
                    f"{pair.first} − {pair.second}",
                    pair.difference,
                    pair.interval.low,
                    pair.interval.high,
                )
                for pair in paired.pairs
                if pair.task == task
            ),
            reference=0.0,
        )
        for task in tasks
    )


def _intro(paired: Paired) -> str:
    better = "higher" if paired.direction == "max" else "lower"
    return (
        f"Differences in {paired.metric} ({better} is better) by seed between the best configs; "
        "95% interval by bootstrap. P: probability that the first beats the second on a seed. "
        "p: Wilcoxon's, exact, adjusted by Holm for all pairs of the task."
    )


def _notes(paired: Paired) -> list[str]:
    notes = []
    seeds = [pair.n for pair in paired.pairs]
    fewest = min(seeds)
    if max(seeds) < 2:
        notes.append("Insufficient data: one seed allows no test.")
    else:
        floor = 2.0 ** (1 - max(seeds))
        notes.append(
            f"With n = {max(seeds)} no unadjusted p can be below {p_value(floor)}: "
            + ("so few seeds prove nothing at .05." if floor > 0.05 else "n allows a claim at .05.")
        )
    if fewest < max(seeds):
        notes.append(f"Some pairs have only {fewest} seeds in common.")
    if any(pair.diverged for pair in paired.pairs):
        notes.append(
            "A trial that diverged is worse than any value in P and p, and has no difference."
        )
    return notes


def _table(task: str, of_task: list[Pair]) -> Table:
    titles = ("difference", "interval", "P", "n", "p (Holm)")
    columns = (Column("pair"), *(Column(title, numeric=True) for title in titles))
    largest = max((abs(pair.difference or 0.0) for pair in of_task), default=0.0)
    # One digit less than a score: the last of a difference of means over few seeds is noise.
    decimals = max(decimals_for([largest]) - 1, DECIMALS)
    rows = tuple(
        (
            f"{pair.first} − {pair.second}",
            signed(pair.difference, decimals),
            bracketed(pair.interval, decimals),
            probability(pair.better),
            str(pair.n),
            p_value(pair.holm),
        )
        for pair in of_task
    )
    return Table(columns, rows, caption=task)


SECTION = Section(
    name="paired",
    title="Pairs, seed by seed",
    place=50,
    record=record,
    blocks=blocks,
    figures=figures,
)
