"""Each contender's best config over its seeds: centre, spread, and how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.comparison import Comparison
from harness.analysis.summary import Summary, summarise_values
from harness.analysis.tournament import tournament
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Figure, Range, Ranges
from harness.report.intervals import bracketed
from harness.report.numbers import decimals_for, figure, spread
from harness.report.rows import called
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class Contender:
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
    contenders: tuple[Contender, ...]


def record(comparison: Comparison) -> Seeds | None:
    games = tournament(comparison)
    if games is None:
        return None
    generator = comparison.generator("seeds")
    told = [
        name for name in comparison.shown if name not in (*games.contend_by, *games.task_fields)
    ]
    made = []
    for (task, name), entry in games.entries.items():
        config = entry.config
        made.append(
            Contender(
                task=task,
                name=name,
                settings=called({field: config.labels[field] for field in told}),
                config_id=config.config_id,
                summary=summarise_values((games.sign * entry.finite).tolist(), generator),
                trials=config.trials,
                diverged=config.diverged,
                failed=config.failed,
                divergence=config.divergence,
            )
        )
    made.sort(key=lambda c: (games.tasks.index(c.task), games.contenders.index(c.name)))
    return Seeds(games.metric, comparison.score.metric, tuple(made))


def blocks(seeds: Seeds) -> tuple[Block, ...]:
    tasks = dict.fromkeys(contender.task for contender in seeds.contenders)
    tables = [
        _table(task, [contender for contender in seeds.contenders if contender.task == task])
        for task in tasks
    ]
    intro = Paragraph(
        f"{seeds.metric} of the best config of each, chosen on {seeds.chosen_on}; IQM is the mean "
        "of the middle half, the interval of the mean is a bootstrap's (BCa, 95%)."
    )
    return (intro, *tables)


def figures(seeds: Seeds) -> tuple[Figure, ...]:
    tasks = dict.fromkeys(contender.task for contender in seeds.contenders)
    return tuple(
        Ranges(
            title=f"Mean and 95% interval over seeds{f': {task}' if task else ''}",
            x=seeds.metric,
            ranges=tuple(
                Range(
                    c.name, c.summary.mean, c.summary.interval.low, c.summary.interval.high, c.name
                )
                for c in seeds.contenders
                if c.task == task
            ),
        )
        for task in tasks
    )


def _note(contender: Contender) -> str:
    told = [f"{contender.divergence:.0%} diverged"] if contender.diverged else []
    return ", ".join((*told, *([f"{contender.failed} failed"] if contender.failed else [])))


def _table(task: str, contenders: list[Contender]) -> Table:
    numeric = ("n", "mean ± sd", "median", "IQM", "interval")
    columns = (
        Column("contender"),
        Column("at"),
        *(Column(name, numeric=True) for name in numeric),
        *((Column("note"),) if any(_note(contender) for contender in contenders) else ()),
    )
    decimals = decimals_for(contender.summary.mean for contender in contenders)
    rows = []
    for contender in contenders:
        found = contender.summary
        rows.append(
            (
                contender.name,
                contender.settings,
                str(found.n),
                spread(found.mean, found.sd, decimals),
                figure(found.median, decimals),
                figure(found.iqm, decimals),
                bracketed(found.interval, decimals),
                *((_note(contender),) if len(columns) > 7 else ()),
            )
        )
    return Table(columns, tuple(rows), caption=task)


SECTION = Section(
    name="seeds", title="Over seeds", place=40, record=record, blocks=blocks, figures=figures
)
