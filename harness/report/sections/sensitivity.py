"""How much depends on the learning rate, and which are too low, good, too high, or diverge."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import pandas as pd

from harness.analysis.comparison import STUDY, Comparison
from harness.analysis.sensitivity import KEPT, Finals, Sensitivity, group_finals, sensitivity
from harness.analysis.tournament import name_of
from harness.core.metrics import FINAL
from harness.core.records import FINISHED, Outcome
from harness.core.text import format_number
from harness.experiment.trial import METHOD_FIELDS, TASK_FIELDS
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Figure, Line, LineChart, Point
from harness.report.numbers import MISSING, figure
from harness.report.section import Section, of_points, points_of
from harness.store.names import PARAM_CONFIG

MOST_GROUPS = 60
MOST_RATES = 30
"""Learning rates that are listed; a figure shows more."""


@dataclass(frozen=True, slots=True)
class Rates:
    """tried: a search's points, which it speaks of; 0 where it speaks of the compared trials."""

    metric: str
    direction: str
    groups: tuple[Sensitivity, ...]
    left_out: int
    insufficient: str
    tried: int


def record(comparison: Comparison) -> Rates | None:
    tried = points_of(comparison)
    comparison = comparison.explored
    if "lr" not in comparison.shown:
        return None
    metric, direction = comparison.score.metric, comparison.score.direction
    column = FINAL + metric
    if column not in comparison.trials:
        missing = f"no trial has {metric} after its last epoch"
        return Rates(metric, direction, (), 0, missing, tried)
    tasks = tuple(
        name
        for name in TASK_FIELDS
        if len({config.labels.get(name) for config in comparison.configs}) > 1
    )
    contend = ("optimizer",) if "optimizer" in comparison.shown else ()
    if STUDY in comparison.contend_by:
        contend = (STUDY,)
    groups = group_finals(_finals(comparison, column, tasks, contend))
    untrained = _untrained(comparison, metric, tasks)
    generator = comparison.generator("sensitivity")
    found = [
        sensitivity(task, name, finals, untrained.get(task), direction, generator)
        for (task, name), finals in _in_order(groups)[:MOST_GROUPS]
        if len({of.lr for of in finals}) > 1
    ]
    left_out = max(len(groups) - MOST_GROUPS, 0)
    return Rates(metric, direction, tuple(found), left_out, "", tried)


def blocks(rates: Rates) -> tuple[Block, ...]:
    if rates.insufficient or not rates.groups:
        reason = rates.insufficient or "no contender has two learning rates"
        return (Paragraph(f"Insufficient data: {reason}."),)
    tasks = dict.fromkeys(group.task for group in rates.groups)
    tables = [
        table
        for task in tasks
        for table in _tables(task, [group for group in rates.groups if group.task == task])
    ]
    notes = [
        Paragraph(
            f"Of {rates.metric} after the last epoch, at the best of whatever else varies. Good "
            f"keeps {KEPT:.0%} of the best lr's gain over the untrained net; too low and too high "
            "lie below and above it; diverged: half of the trials or more. Sensitivity: mean part "
            "of the gain that is lost over the grid; 0 is none."
        )
    ]
    if any(group.untrained is None for group in rates.groups):
        notes.append(
            Paragraph(
                "Insufficient data for regimes where the untrained net's score is not known.",
                "caution",
            )
        )
    return (*of_points(rates.tried), *notes, *tables)


def figures(rates: Rates) -> tuple[Figure, ...]:
    tasks = dict.fromkeys(group.task for group in rates.groups)
    return tuple(
        LineChart(
            title=f"{rates.metric} after the last epoch over lr{f': {task}' if task else ''}",
            x="lr",
            y=rates.metric,
            log_x=True,
            band="95% interval over seeds",
            lines=tuple(
                Line(
                    group.contender or "all",
                    tuple(
                        Point(rate.lr, shown, rate.interval.low, rate.interval.high)
                        for rate in group.rates
                        if (shown := rate.final) is not None and rate.lr > 0
                    ),
                )
                for group in rates.groups
                if group.task == task
            ),
        )
        for task in tasks
    )


def _finals(
    comparison: Comparison, column: str, tasks: Sequence[str], contend: Sequence[str]
) -> list[tuple[str, str, Finals]]:
    trials = comparison.trials
    done = trials[(trials["outcome"] == Outcome.DONE) & np.isfinite(trials[column].astype(float))]
    values = {str(config): tuple(of) for config, of in done.groupby(PARAM_CONFIG)[column]}
    made = []
    for config in comparison.configs:
        of = values.get(config.config_id, ())
        if of or config.diverged:
            finals = Finals(lr=float(config.labels["lr"]), values=of, diverged=config.diverged)
            made.append((name_of(config.labels, tasks), name_of(config.labels, contend), finals))
    return made


def _in_order(
    groups: Mapping[tuple[str, str], list[Finals]],
) -> list[tuple[tuple[str, str], list[Finals]]]:
    """Contenders in the same order on each task, so that their colours stay theirs."""
    tasks = list(dict.fromkeys(task for task, _ in groups))
    names = list(dict.fromkeys(name for _, name in groups))
    return sorted(
        groups.items(), key=lambda item: (tasks.index(item[0][0]), names.index(item[0][1]))
    )


def _untrained(
    comparison: Comparison, metric: str, tasks: Sequence[str]
) -> dict[str, float | None]:
    """Mean score of the untrained nets of each task: weights at epoch 0 depend on model and seed
    alone, so that one run of each tells it."""
    if comparison.details is None:
        return {}
    labels = {config.config_id: config.labels for config in comparison.configs}
    trials = comparison.trials[comparison.trials["outcome"].isin(FINISHED)]
    same = [
        name
        for name in comparison.fields
        if name.partition(".")[0] not in (*METHOD_FIELDS, "trial_id", PARAM_CONFIG)
        and name in trials
    ]
    kept = trials.drop_duplicates(same) if same else trials
    history = comparison.details.histories(list(kept["run_id"]), [metric])
    first = history[history["step"] == 0].set_index("run_id")["value"]
    task_of = pd.Series(
        [name_of(labels[str(config)], tasks) for config in kept[PARAM_CONFIG]],
        index=list(kept["run_id"]),
    )
    means = first.groupby(task_of.reindex(first.index)).mean()
    return {
        str(task): float(mean) if isfinite(mean) else None
        for task, mean in zip(means.index, means, strict=True)
    }


def _tables(task: str, groups: list[Sensitivity]) -> tuple[Table, ...]:
    every = sorted({rate.lr for group in groups for rate in group.rates})
    summary = _summary(task, groups)
    return (_regimes(every, groups), summary) if len(every) <= MOST_RATES else (summary,)


def _regimes(every: list[float], groups: list[Sensitivity]) -> Table:
    columns = (Column("lr", numeric=True), *(Column(g.contender or "all") for g in groups))
    regimes = [{rate.lr: rate.regime for rate in group.rates} for group in groups]
    rows = tuple((format_number(lr), *(str(of.get(lr, MISSING)) for of in regimes)) for lr in every)
    return Table(columns, rows, caption=groups[0].task)


def _summary(task: str, groups: list[Sensitivity]) -> Table:
    columns = (
        Column("contender"),
        Column("best lr", numeric=True),
        Column("in grid"),
        Column("good from", numeric=True),
        Column("to", numeric=True),
        Column("decades", numeric=True),
        Column("sensitivity", numeric=True),
    )
    rows = []
    for group in groups:
        low, high = (map(format_number, group.good)) if group.good else (MISSING, MISSING)
        width = MISSING if group.decades is None else f"{group.decades:.1f}"
        rows.append(
            (
                group.contender or "all",
                MISSING if group.best is None else format_number(group.best),
                MISSING if group.edge is None else group.edge or "inside",
                low,
                high,
                f"≥ {width}" if group.open_ended else width,
                figure(group.sensitivity, 2),
            )
        )
    return Table(columns, tuple(rows), caption=task)


SECTION = Section(
    name="sensitivity",
    title="Learning-rate sensitivity",
    place=70,
    record=record,
    blocks=blocks,
    figures=figures,
)
