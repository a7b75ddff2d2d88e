"""Each contender's best config over its seeds: centre, spread, and interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.analysis.comparison import Comparison
from harness.analysis.configs import settings_of
from harness.analysis.statistics import Summary, summarise_values
from harness.analysis.tournament import make_tournament
from harness.report.blocks import Block, Column, Paragraph, ReportTable, by_task, columns, with_task
from harness.report.figures import Figure, ForestPlot, ForestRow
from harness.report.formatting import bracketed, decimals_for, describe, significant, spread
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class ContenderSeeds:
    """summary: of the metric over seeds that are done, in its own unit."""

    task: str
    name: str
    settings: str
    config_id: str
    summary: Summary
    trials: int
    diverged: int
    failed: int
    divergence: float | None


@dataclass(frozen=True, slots=True)
class Seeds:
    metric: str
    chosen_on: str
    contenders: tuple[ContenderSeeds, ...]


def record(comparison: Comparison) -> Seeds | None:
    tournament = make_tournament(comparison)
    if tournament is None:
        return None
    generator = comparison.generator("seeds")
    shown = [name for name in comparison.shown if name not in tournament.task_fields]
    contenders = []
    for (task, name), entry in tournament.entries.items():
        config = entry.config
        done = tournament.sign * entry.scores[np.isfinite(entry.scores)]
        contenders.append(
            ContenderSeeds(
                task=task,
                name=name,
                settings=describe(settings_of(config.labels, shown, tournament.contend_by)),
                config_id=config.config_id,
                summary=summarise_values(done.tolist(), generator, tournament.resolution),
                trials=config.trials,
                diverged=config.diverged,
                failed=config.failed,
                divergence=config.divergence,
            )
        )
    tasks, names = tournament.tasks, tournament.contenders
    contenders.sort(key=lambda c: (tasks.index(c.task), names.index(c.name)))
    return Seeds(tournament.metric, comparison.score.metric, tuple(contenders))


def blocks(seeds: Seeds) -> tuple[Block, ...]:
    intro = Paragraph(
        f"{seeds.metric} of the best config of each contender, chosen on {seeds.chosen_on}. IQM is "
        "the mean of the middle half; the interval of the mean is by bootstrap (BCa, 95%)."
    )
    return (intro, *(_table(task, of) for task, of in by_task(seeds.contenders).items()))


def figures(seeds: Seeds) -> tuple[Figure, ...]:
    return tuple(
        ForestPlot(
            title=with_task("Mean and 95% interval over seeds", task),
            x=seeds.metric,
            rows=tuple(
                ForestRow(c.name, c.summary.mean, c.summary.interval, c.name) for c in contenders
            ),
        )
        for task, contenders in by_task(seeds.contenders).items()
    )


def _table(task: str, contenders: Sequence[ContenderSeeds]) -> ReportTable:
    titles = columns("contender", "at", numeric=("n", "mean ± sd", "median", "IQM", "interval"))
    decimals = decimals_for(contender.summary.mean for contender in contenders)
    rows = tuple(
        (
            of.name,
            of.settings,
            str(of.summary.n),
            spread(of.summary.mean, of.summary.sd, decimals),
            significant(of.summary.median, decimals),
            significant(of.summary.iqm, decimals),
            bracketed(of.summary.interval, decimals),
            _note(of),
        )
        for of in contenders
    )
    table = ReportTable((*titles, Column("note")), rows, caption=task)
    return table if any(map(_note, contenders)) else table.without_last_column()


def _note(contender: ContenderSeeds) -> str:
    notes = [f"{contender.divergence:.0%} diverged"] if contender.divergence else []
    return ", ".join((*notes, *([f"{contender.failed} failed"] if contender.failed else [])))


SECTION = Section("seeds", "Over seeds", record, blocks, figures, order=40)
