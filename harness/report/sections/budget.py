"""What a budget of k configs can be expected to find, and what tuning gains over defaults."""

from __future__ import annotations

from dataclasses import dataclass

from harness.analysis.budget import DEFAULT_LR, ESTIMATOR, expected_best
from harness.analysis.comparison import Comparison
from harness.analysis.configs import Config
from harness.analysis.tournament import name_of, tournament
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Figure, Line, LineChart, Point
from harness.report.numbers import MISSING, decimals_for, figure, signed
from harness.report.section import Section, of_points, points_of

MOST_CONFIGS = 200
"""Longest curve that is drawn."""
SHOWN = (1, 2, 5, 10, 20, 50, 100)
FEWEST = 2


@dataclass(frozen=True, slots=True)
class Curve:
    """expected: of k = 1 … configs with a value. unfinished: configs without one, left out.

    default: score at torch's default learning rate without a schedule, tuned: of the best config,
    both on the metric that configs are chosen on; None where the grid lacks it.
    """

    task: str
    contender: str
    configs: int
    unfinished: int
    expected: tuple[float, ...]
    default: float | None
    tuned: float


@dataclass(frozen=True, slots=True)
class Budget:
    """tried: a search's points, which it speaks of; 0 where it speaks of the compared trials."""

    metric: str
    estimator: str
    curves: tuple[Curve, ...]
    tried: int


def record(comparison: Comparison) -> Budget | None:
    tried = points_of(comparison)
    comparison = comparison.explored
    games = tournament(comparison)
    if games is None:
        return None
    groups: dict[tuple[str, str], list[Config]] = {}
    for config in comparison.configs:
        key = name_of(config.labels, games.task_fields), name_of(config.labels, games.contend_by)
        groups.setdefault(key, []).append(config)
    curves = [
        _curve(task, name, configs, comparison.score.direction)
        for (task, name), configs in groups.items()
        if sum(config.mean is not None for config in configs) >= FEWEST
    ]
    tasks, names = list(games.tasks), list(games.contenders)
    curves.sort(key=lambda curve: (tasks.index(curve.task), names.index(curve.contender)))
    return Budget(comparison.score.metric, ESTIMATOR, tuple(curves), tried) if curves else None


def blocks(budget: Budget) -> tuple[Block, ...]:
    tasks = dict.fromkeys(curve.task for curve in budget.curves)
    tables = [
        _table(task, [curve for curve in budget.curves if curve.task == task]) for task in tasks
    ]
    intro = (
        f"{budget.metric} of the best of k configs: {budget.estimator}, over configs' means. "
        "Default: torch's own learning rate, without a schedule."
    )
    notes = []
    if any(curve.unfinished for curve in budget.curves):
        notes.append("Configs without a value (diverged or failed throughout) are left out.")
    return (*of_points(budget.tried), Paragraph(intro), *tables, *map(Paragraph, notes))


def figures(budget: Budget) -> tuple[Figure, ...]:
    tasks = dict.fromkeys(curve.task for curve in budget.curves)
    return tuple(
        LineChart(
            title=f"Expected best {budget.metric} of k configs{f': {task}' if task else ''}",
            x="configs tried",
            y=budget.metric,
            lines=tuple(
                Line(
                    curve.contender,
                    tuple(Point(k, value) for k, value in enumerate(curve.expected, start=1)),
                )
                for curve in budget.curves
                if curve.task == task
            ),
        )
        for task in tasks
    )


def _curve(task: str, contender: str, configs: list[Config], direction: str) -> Curve:
    means = [config.mean for config in configs if config.mean is not None]
    sign = 1 if direction == "max" else -1
    defaults = [
        config.mean
        for config in configs
        if config.mean is not None
        and config.labels.get("scheduler") == "constant"
        and float(config.labels["lr"]) == DEFAULT_LR.get(config.labels["optimizer"])
    ]
    return Curve(
        task=task,
        contender=contender,
        configs=len(means),
        unfinished=len(configs) - len(means),
        expected=tuple(float(v) for v in expected_best(means, direction)[:MOST_CONFIGS]),
        default=max(defaults, key=lambda mean: sign * mean, default=None),
        tuned=max(means, key=lambda mean: sign * mean),
    )


def _table(task: str, curves: list[Curve]) -> Table:
    longest = max(len(curve.expected) for curve in curves)
    shown = [k for k in SHOWN if k <= longest]
    decimals = decimals_for(curve.tuned for curve in curves)
    columns = (
        Column("contender"),
        *(Column(f"k = {k}", numeric=True) for k in shown),
        Column("best", numeric=True),
        Column("default", numeric=True),
        Column("tuning gains", numeric=True),
    )
    rows = tuple(
        (
            curve.contender,
            *(
                figure(curve.expected[k - 1], decimals) if k <= len(curve.expected) else MISSING
                for k in shown
            ),
            figure(curve.tuned, decimals),
            figure(curve.default, decimals),
            signed(None if curve.default is None else curve.tuned - curve.default, decimals),
        )
        for curve in curves
    )
    return Table(columns, rows, caption=task)


SECTION = Section(
    name="budget", title="Tuning budget", place=75, record=record, blocks=blocks, figures=figures
)
