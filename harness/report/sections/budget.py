"""The expected best score of k configs, and what tuning gains over torch's default lr."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.analysis.comparison import Comparison
from harness.analysis.configs import Config, learning_rate, name_of
from harness.analysis.tournament import make_tournament
from harness.report.blocks import Block, Paragraph, ReportTable, by_task, columns, with_task
from harness.report.figures import Figure, LineChart, LineSeries, Point
from harness.report.formatting import MISSING, decimals_for, signed, significant
from harness.report.section import Section, about_points, points_tried

ESTIMATOR = "expected maximum of k configs drawn without replacement (Tang et al., 2020)"
DEFAULT_LR = {
    **dict.fromkeys(("sgd", "momentum", "nesterov", "adam", "adamw", "radam"), 1e-3),
    **dict.fromkeys(("rmsprop", "adagrad", "ASGD", "Adafactor", "Rprop"), 1e-2),
    **dict.fromkeys(("nadam", "Adamax"), 2e-3),
    **dict.fromkeys(("Adadelta", "LBFGS"), 1.0),
}
"""The learning rates that the optimizers of `torch.optim` use by default."""
MOST_CONFIGS = 200
"""Longest curve that is drawn."""
SHOWN = (1, 2, 5, 10, 20, 50, 100)
FEWEST = 2


@dataclass(frozen=True, slots=True)
class BudgetCurve:
    """expected: for k = 1 … configs with a value. unfinished: configs without a value, left out.

    default: the score at torch's default learning rate without a schedule, at the best of whatever
        else varies; None if the grid does not have it. tuned: of the best config. Both are on the
        metric that chooses configs.
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
    """tried: how many points of a search this is about; 0 if it is about the trials compared."""

    metric: str
    estimator: str
    curves: tuple[BudgetCurve, ...]
    tried: int


def record(comparison: Comparison) -> Budget | None:
    tried = points_tried(comparison)
    comparison = comparison.exploration
    tournament = make_tournament(comparison)
    if tournament is None:
        return None
    groups: dict[tuple[str, str], list[Config]] = {}
    for config in comparison.configs:
        task = name_of(config.labels, tournament.task_fields)
        name = name_of(config.labels, tournament.contend_by)
        groups.setdefault((task, name), []).append(config)
    own = comparison.external is None
    curves = [
        _curve(task, name, groups[task, name], comparison.score.direction, own)
        for task in tournament.tasks
        for name in tournament.contenders
        if sum(config.mean is not None for config in groups.get((task, name), ())) >= FEWEST
    ]
    return Budget(comparison.score.metric, ESTIMATOR, tuple(curves), tried) if curves else None


def blocks(budget: Budget) -> tuple[Block, ...]:
    intro = f"{budget.metric} of the best of k configs: {budget.estimator}, over configs' means."
    if any(curve.default is not None for curve in budget.curves):
        intro += (
            " Default: torch's own learning rate, without a schedule, at the best of whatever else "
            "varies."
        )
    notes = []
    if any(curve.unfinished for curve in budget.curves):
        notes.append("Configs without a value (all trials diverged or failed) are left out.")
    tables = [_table(task, curves) for task, curves in by_task(budget.curves).items()]
    return (*about_points(budget.tried), Paragraph(intro), *tables, *map(Paragraph, notes))


def figures(budget: Budget) -> tuple[Figure, ...]:
    return tuple(
        LineChart(
            title=with_task(f"Expected best {budget.metric} of k configs", task),
            x="configs tried",
            y=budget.metric,
            lines=tuple(
                LineSeries(of.contender, tuple(Point(k, v) for k, v in enumerate(of.expected, 1)))
                for of in curves
            ),
        )
        for task, curves in by_task(budget.curves).items()
    )


def expected_best(values: Sequence[float], direction: str = "max") -> NDArray[np.float64]:
    """Returns the expected best [n] of k of these n values, for k = 1 … n: unbiased, by order
    statistics.

    The estimator of Dodge et al. (2019) draws with replacement, which is biased downward (Tang et
    al., 2020). Raises ValueError if a value is not finite.
    """
    data = np.sort(np.asarray(values, dtype=float))
    if not np.isfinite(data).all():
        raise ValueError("an expected best needs finite values")
    if direction == "min":
        return -expected_best((-data).tolist())
    n = data.size
    best = np.empty(n)
    below_best = (data[-1:] - data)[::-1]  # Equal values have an expected best that equals them.
    # Of all subsets of k, the share whose largest is the i-th is C(i − 1, k − 1) / C(n, k): k / n
    # for the largest, and falling from there by a ratio that needs no factorial.
    for k in range(1, n + 1):
        below = np.arange(n - 1, k - 1, -1)
        weights = np.cumprod(np.concatenate(([k / n], (below - k + 1) / below)))
        best[k - 1] = data[-1] - weights @ below_best[: weights.size]
    return best


def _curve(
    task: str, contender: str, configs: Sequence[Config], direction: str, own: bool
) -> BudgetCurve:
    """own: whether the harness trained the configs, so that their names are torch's."""
    means = [config.mean for config in configs if config.mean is not None]
    defaults = [
        config.mean for config in configs if config.mean is not None and own and _is_default(config)
    ]
    best = max if direction == "max" else min
    return BudgetCurve(
        task=task,
        contender=contender,
        configs=len(means),
        unfinished=len(configs) - len(means),
        expected=tuple(float(v) for v in expected_best(means, direction)[:MOST_CONFIGS]),
        default=best(defaults) if defaults else None,
        tuned=best(means),
    )


def _is_default(config: Config) -> bool:
    """Whether a config has torch's learning rate and no schedule or warm-up, whatever its other
    options. A label has the options that differ: "sgd(weight_decay=0.1)"."""
    optimizer = config.labels["optimizer"].partition("(")[0]
    scheduler, _, options = config.labels.get("scheduler", "").partition("(")
    warmup = re.search(r"warmup_epochs=([^,)]+)", options)
    constant = scheduler == "constant" and (warmup is None or float(warmup[1]) == 0)
    return constant and learning_rate(config.labels) == DEFAULT_LR.get(optimizer)


def _table(task: str, curves: Sequence[BudgetCurve]) -> ReportTable:
    longest = max(len(curve.expected) for curve in curves)
    shown = [k for k in SHOWN if k <= longest]
    decimals = decimals_for(curve.tuned for curve in curves)
    rows = []
    for curve in curves:
        expected = [curve.expected[k - 1] if k <= len(curve.expected) else None for k in shown]
        values = [significant(value, decimals) for value in (*expected, curve.tuned, curve.default)]
        gain = MISSING if curve.default is None else signed(curve.tuned - curve.default, decimals)
        rows.append((curve.contender, *values, gain))
    titles = (*(f"k = {k}" for k in shown), "best", "default", "tuning gains")
    return ReportTable(columns("contender", numeric=titles), tuple(rows), caption=task)


SECTION = Section("budget", "Tuning budget", record, blocks, figures, order=75)
