"""What results cost, and which configs no other config beats at a lower cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.comparison import TASK, Comparison
from harness.analysis.configs import Config, name_of
from harness.analysis.cost import Cost, DeviceCost, across_devices, cost_of, pareto
from harness.analysis.tournament import Tournament, make_tournament, varying_task_fields
from harness.core.metrics import BEST_EPOCH, TRAIN_SECONDS
from harness.core.records import Outcome
from harness.report.blocks import Block, Paragraph, ReportTable, by_task, columns, with_task
from harness.report.figures import Figure, ScatterPlot, ScatterPoint
from harness.report.formatting import MISSING, decimals_for, describe, figure, significant
from harness.report.section import Section
from harness.store.names import PARAM_CONFIG

MOST_POINTS = 600
SECONDS = "training seconds"
EPOCHS = "best epoch"
MEANS = (
    "Means over the trials that are done, for the whole of a trial; the training clock does not "
    "count evaluation."
)
PEAK = (
    "Peak MiB is the largest of these trials: on a GPU, the most memory that torch held; on a CPU, "
    "how much the process grew at most while it trained, beyond its libraries, data and weights. "
    "Trials of one stack have the stack's seconds and memory."
)
SHARED = (
    "Trials shared their device or ran on several: their seconds cannot be compared, and the front "
    "below counts epochs until the best one."
)
FRONT = "On the front of score against cost, no other config is better at a lower cost."
ACROSS = (
    "Trials that ran on several devices and differ in the device alone. Times the first: geometric "
    "mean of the ratio of seconds, if each trial had its device to itself. Apart: the largest "
    "difference of a trial's score from that on the first device."
)


@dataclass(frozen=True, slots=True)
class ContenderCost:
    task: str
    contender: str
    cost: Cost


@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """A config's cost and score. front: whether no other config of its task is at least as good in
    both and better in one."""

    config_id: str
    task: str
    cost: float
    score: float
    front: bool


@dataclass(frozen=True, slots=True)
class ConfigCost:
    label: str
    contender: str
    priced: ParetoPoint

    @property
    def task(self) -> str:
        return self.priced.task


@dataclass(frozen=True, slots=True)
class Costs:
    """unit: of the front's cost: seconds if each trial had its device to itself, else epochs."""

    metric: str
    direction: str
    unit: str
    groups: tuple[ContenderCost, ...]
    configs: tuple[ConfigCost, ...]
    devices: tuple[DeviceCost, ...]
    insufficient: str


Names = dict[str, tuple[str, str]]
"""Task and contender by config id."""


def record(comparison: Comparison) -> Costs | None:
    trials, score = comparison.trials, comparison.score
    done = trials[trials["outcome"] == Outcome.DONE]
    if TRAIN_SECONDS not in trials or done.empty:
        return Costs(score.metric, score.direction, EPOCHS, (), (), (), "no trial has its times")
    tournament = make_tournament(comparison)
    contend_by = tournament.contend_by if tournament else ()
    task_fields = [
        name
        for name in varying_task_fields(comparison, contend_by)
        if name in (TASK, *comparison.shown)
    ]
    names = {
        config.config_id: (name_of(config.labels, task_fields), name_of(config.labels, contend_by))
        for config in comparison.configs
    }
    exclusive = done["exclusive"].all() and done["device_name"].nunique() <= 1
    unit, column = (SECONDS, TRAIN_SECONDS) if exclusive else (EPOCHS, BEST_EPOCH)
    groups = _groups(trials, names, tournament)
    devices = across_devices(trials, comparison.fields, score.column)
    costs = done.groupby(PARAM_CONFIG)[column].mean() if column in done else pd.Series(dtype=float)
    configs = _configs(comparison, names, task_fields, costs)
    return Costs(score.metric, score.direction, unit, groups, configs, devices, "")


def blocks(costs: Costs) -> tuple[Block, ...]:
    if costs.insufficient:
        return (Paragraph(f"Insufficient data: {costs.insufficient}."),)
    notes = [Paragraph(MEANS)]
    if any(group.cost.memory_mib is not None for group in costs.groups):
        notes.append(Paragraph(PEAK))
    if costs.unit != SECONDS:
        notes.append(Paragraph(SHARED, "caution"))
    tables = [_table(task, groups) for task, groups in by_task(costs.groups).items()]
    devices = (Paragraph(ACROSS), _device_table(costs)) if costs.devices else ()
    return (*notes, Paragraph(FRONT), *tables, _front_table(costs), *devices)


def figures(costs: Costs) -> tuple[Figure, ...]:
    groups = tuple(dict.fromkeys(group.contender for group in costs.groups))
    return tuple(
        ScatterPlot(
            title=with_task(f"{costs.metric} against {costs.unit}", task),
            x=costs.unit,
            y=costs.metric,
            points=tuple(
                ScatterPoint(
                    of.priced.cost, of.priced.score, of.label, of.contender, of.priced.front
                )
                for of in configs
            ),
            groups=groups,
        )
        for task, configs in by_task(costs.configs).items()
    )


def _groups(
    trials: pd.DataFrame, names: Names, tournament: Tournament | None
) -> tuple[ContenderCost, ...]:
    """Returns the cost of each contender on each task, in the tournament's order."""
    rows_of: dict[tuple[str, str], list[int]] = {}
    for row, config_id in enumerate(trials[PARAM_CONFIG]):
        rows_of.setdefault(names[str(config_id)], []).append(row)
    groups = [ContenderCost(*key, cost_of(trials.iloc[rows])) for key, rows in rows_of.items()]
    if tournament:
        names_in_order = {name: place for place, name in enumerate(tournament.contenders)}
        tasks = {task: place for place, task in enumerate(tournament.tasks)}
        last = len(names_in_order)
        groups.sort(key=lambda g: (tasks.get(g.task, -1), names_in_order.get(g.contender, last)))
    return tuple(groups)


def _configs(
    comparison: Comparison, names: Names, task_fields: Sequence[str], costs: pd.Series[float]
) -> tuple[ConfigCost, ...]:
    """Returns the configs without divergence, those on the front and the best others.

    costs: by config id.
    """
    priced: dict[str, list[tuple[Config, float, float]]] = {}
    for config in comparison.configs:
        cost = float(costs.get(config.config_id, np.nan))
        if config.mean is not None and np.isfinite(cost) and not config.diverged:
            priced.setdefault(names[config.config_id][0], []).append((config, cost, config.mean))
    fields = [name for name in comparison.shown if name not in task_fields]
    configs = []
    for task, of_task in priced.items():
        scores = [comparison.score.sign * mean for _, _, mean in of_task]
        front = pareto([cost for _, cost, _ in of_task], scores)
        for place, (config, cost, mean) in enumerate(of_task):
            if front[place] or place < MOST_POINTS:
                point = ParetoPoint(config.config_id, task, cost, mean, front[place])
                label = describe({name: config.labels[name] for name in fields})
                configs.append(ConfigCost(label, names[config.config_id][1], point))
    return tuple(configs)


def _table(task: str, groups: Sequence[ContenderCost]) -> ReportTable:
    titles = ("trials", "train s", "eval s", "examples/s", "best epoch", "peak MiB")
    rows = tuple(
        (
            group.contender or "all",
            str(group.cost.trials),
            figure(group.cost.train_s, 3),
            figure(group.cost.eval_s, 3),
            figure(group.cost.pace, 0),
            figure(group.cost.best_epoch, 1),
            figure(group.cost.memory_mib, 0),
        )
        for group in groups
    )
    table = ReportTable(columns("contender", numeric=titles), rows, caption=task)
    measured = any(group.cost.memory_mib is not None for group in groups)
    return table if measured else table.without_last_column()


def _front_table(costs: Costs) -> ReportTable:
    front = [config for config in costs.configs if config.priced.front]
    decimals = decimals_for(config.priced.score for config in front)
    rows = tuple(
        (
            f"{config.task}: {config.label}" if config.task else config.label,
            figure(config.priced.cost, 3 if costs.unit == SECONDS else 1),
            significant(config.priced.score, decimals),
        )
        for config in sorted(front, key=lambda config: (config.task, config.priced.cost))
    )
    titles = columns("on the front", numeric=(costs.unit, costs.metric))
    return ReportTable(titles, rows, caption="Pareto front")


def _device_table(costs: Costs) -> ReportTable:
    titles = ("in common", "train s", "times the first", "examples/s", "peak MiB")
    rows = tuple(
        (
            of.device,
            str(of.trials),
            figure(of.cost.train_s, 3),
            MISSING if of.slower is None else f"{of.slower:.2f}",
            figure(of.cost.pace, 0),
            figure(of.cost.memory_mib, 0),
            figure(of.apart),
        )
        for of in costs.devices
    )
    numeric = (*titles, f"{costs.metric} apart")
    caption = "The same trial across devices"
    return ReportTable(columns("device", numeric=numeric), rows, caption)


SECTION = Section("cost", "Cost", record, blocks, figures, order=85)
