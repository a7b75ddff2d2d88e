"""What results cost, and which configs no other beats at less."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.cost import Cost, Priced, cost_of, pareto
from harness.analysis.devices import DeviceCost, across_devices
from harness.analysis.tournament import name_of, tournament
from harness.core.metrics import BEST_EPOCH, TRAIN_SECONDS
from harness.core.records import Outcome
from harness.experiment.trial import TASK_FIELDS
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Dot, Figure, Scatter
from harness.report.numbers import MISSING, figure
from harness.report.rows import called
from harness.report.section import Section
from harness.store.names import PARAM_CONFIG

MOST_DOTS = 600
SECONDS = "training seconds"
EPOCHS = "best epoch"
PEAK = (
    "Peak MiB, the largest of these trials: on a GPU the most that torch held there; on a CPU by "
    "how much the process grew at most while it trained, beyond its libraries, data and weights. "
    "Trials of one stack have the stack's seconds and memory."
)


ACROSS = (
    "The same trial across devices: of those that ran on several, alike but for the device. Times "
    "the first: geometric mean of seconds, where each trial had its device to itself. Apart: the "
    "largest difference of a trial's score from that on the first."
)


@dataclass(frozen=True, slots=True)
class GroupCost:
    task: str
    contender: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class Plotted:
    label: str
    contender: str
    priced: Priced


@dataclass(frozen=True, slots=True)
class Costs:
    """unit: of the front's cost: seconds where each trial had its device to itself, else epochs."""

    metric: str
    direction: str
    unit: str
    groups: tuple[GroupCost, ...]
    configs: tuple[Plotted, ...]
    devices: tuple[DeviceCost, ...]
    insufficient: str


def record(comparison: Comparison) -> Costs | None:
    trials = comparison.trials
    score = comparison.score
    if TRAIN_SECONDS not in trials or not (trials["outcome"] == Outcome.DONE).any():
        return Costs(score.metric, score.direction, EPOCHS, (), (), (), "no trial has its times")
    games = tournament(comparison)
    contend = games.contend_by if games else ()
    tasks = tuple(
        name
        for name in TASK_FIELDS
        if name in ("dataset", *comparison.shown) and name not in contend
    )
    tasks = tuple(
        name for name in tasks if len({c.labels.get(name) for c in comparison.configs}) > 1
    )
    names = {
        c.config_id: (name_of(c.labels, tasks), name_of(c.labels, contend))
        for c in comparison.configs
    }
    keys = pd.MultiIndex.from_tuples([names[str(c)] for c in trials[PARAM_CONFIG]])
    by = [keys.get_level_values(0), keys.get_level_values(1)]
    groups = [
        GroupCost(str(task), str(contender), cost_of(of))
        for (task, contender), of in trials.groupby(by, sort=False)
    ]
    if games:
        order = {name: place for place, name in enumerate(games.contenders)}
        groups.sort(key=lambda group: order.get(group.contender, len(order)))
        tasks_in_order = {task: place for place, task in enumerate(games.tasks)}
        groups.sort(key=lambda group: tasks_in_order.get(group.task, -1))
    done = trials[trials["outcome"] == Outcome.DONE]
    unit = SECONDS if done["exclusive"].all() and done["device_name"].nunique() <= 1 else EPOCHS
    column = TRAIN_SECONDS if unit == SECONDS else BEST_EPOCH
    devices = across_devices(trials, comparison.fields, score.column)
    plotted = _plotted(comparison, names, tasks, done, column)
    return Costs(score.metric, score.direction, unit, tuple(groups), plotted, devices, "")


def blocks(costs: Costs) -> tuple[Block, ...]:
    if costs.insufficient:
        return (Paragraph(f"Insufficient data: {costs.insufficient}."),)
    tasks = dict.fromkeys(group.task for group in costs.groups)
    tables = [_table(task, [g for g in costs.groups if g.task == task]) for task in tasks]
    notes = [
        Paragraph(
            "Means over the trials that are done, for the whole of a trial; "
            "evaluation is kept out of the training clock."
        )
    ]
    if any(group.cost.memory_mib is not None for group in costs.groups):
        notes.append(Paragraph(PEAK))
    if costs.unit != SECONDS:
        notes.append(
            Paragraph(
                "Trials shared their device or ran on several: their seconds do not compare, and "
                "the front below counts epochs until the best one.",
                "caution",
            )
        )
    front = [one for one in costs.configs if one.priced.front]
    notes.append(
        Paragraph("On the front of score against cost, no other config is better at less.")
    )
    return (*notes, *tables, _front(costs, front), *_device_table(costs))


def figures(costs: Costs) -> tuple[Figure, ...]:
    tasks = dict.fromkeys(one.priced.task for one in costs.configs)
    return tuple(
        Scatter(
            title=f"{costs.metric} against {costs.unit}{f': {task}' if task else ''}",
            x=costs.unit,
            y=costs.metric,
            dots=tuple(
                Dot(one.priced.cost, one.priced.score, one.label, one.contender, one.priced.front)
                for one in costs.configs
                if one.priced.task == task
            ),
            groups=tuple(dict.fromkeys(group.contender for group in costs.groups)),
        )
        for task in tasks
    )


def _plotted(
    comparison: Comparison,
    names: dict[str, tuple[str, str]],
    tasks: tuple[str, ...],
    done: pd.DataFrame,
    column: str,
) -> tuple[Plotted, ...]:
    if column not in done:
        return ()
    means = done.groupby(PARAM_CONFIG)[column].mean()
    sign = 1 if comparison.score.direction == "max" else -1
    by_task: dict[str, list[tuple[str, str, str, float, float]]] = {}
    for config in comparison.configs:
        task, contender = names[config.config_id]
        cost = means.get(config.config_id, np.nan)
        if config.mean is not None and np.isfinite(cost) and not config.diverged:
            label = called({f: config.labels[f] for f in comparison.shown if f not in tasks})
            by_task.setdefault(task, []).append(
                (config.config_id, label, contender, float(cost), config.mean)
            )
    made = []
    for task, configs in by_task.items():
        front = pareto([c[3] for c in configs], [sign * c[4] for c in configs])
        for place, (config_id, label, contender, cost, mean) in enumerate(configs):
            if front[place] or place < MOST_DOTS:
                priced = Priced(
                    config_id=config_id, task=task, cost=cost, score=mean, front=front[place]
                )
                made.append(Plotted(label, contender, priced))
    return tuple(made)


def _table(task: str, groups: list[GroupCost]) -> Table:
    memory = any(group.cost.memory_mib is not None for group in groups)
    columns = [
        Column("contender"),
        Column("trials", numeric=True),
        Column("train s", numeric=True),
        Column("eval s", numeric=True),
        Column("examples/s", numeric=True),
        Column("best epoch", numeric=True),
    ]
    columns += [Column("peak MiB", numeric=True)] if memory else []
    rows = []
    for group in groups:
        cost = group.cost
        cells = [
            group.contender or "all",
            str(cost.trials),
            figure(cost.train_s, 3),
            figure(cost.eval_s, 3),
            figure(cost.pace, 0),
            figure(cost.best_epoch, 1),
        ]
        rows.append(tuple(cells + ([figure(cost.memory_mib, 0)] if memory else [])))
    return Table(tuple(columns), tuple(rows), caption=task)


def _front(costs: Costs, front: list[Plotted]) -> Table:
    columns = (
        Column("on the front"),
        Column(costs.unit, numeric=True),
        Column(costs.metric, numeric=True),
    )
    ordered = sorted(front, key=lambda one: (one.priced.task, one.priced.cost))
    rows = tuple(
        (
            f"{one.priced.task}: {one.label}" if one.priced.task else one.label,
            figure(one.priced.cost, 3 if costs.unit == SECONDS else 1),
            figure(one.priced.score),
        )
        for one in ordered
    )
    return Table(columns, rows, caption="Pareto front")


def _device_table(costs: Costs) -> tuple[Block, ...]:
    if not costs.devices:
        return ()
    columns = (
        Column("device"),
        Column("in common", numeric=True),
        Column("train s", numeric=True),
        Column("times the first", numeric=True),
        Column("examples/s", numeric=True),
        Column("peak MiB", numeric=True),
        Column(f"{costs.metric} apart", numeric=True),
    )
    rows = tuple(
        (
            one.device,
            str(one.trials),
            figure(one.cost.train_s, 3),
            MISSING if one.slower is None else f"{one.slower:.2f}",
            figure(one.cost.pace, 0),
            figure(one.cost.memory_mib, 0),
            figure(one.apart),
        )
        for one in costs.devices
    )
    return (Paragraph(ACROSS), Table(columns, rows, caption="The same trial across devices"))


SECTION = Section(
    name="cost", title="Cost", place=85, record=record, blocks=blocks, figures=figures
)
