"""Learning curves of each contender's best config, over its seeds."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.tournament import make_tournament
from harness.report.blocks import Block, Paragraph, with_task
from harness.report.figures import Figure, LineChart, LineSeries, Point
from harness.report.section import Section

TRAIN_LOSS = "train/loss"
MOST_POINTS = 200
"""Most epochs of a curve that are drawn; of more, evenly spaced ones."""
INTRO = {
    "epoch": (
        "Means over seeds of each contender's best config by epoch (0 is untrained); bands reach "
        "from the lowest to the highest seed. The curve of a seed that diverged ends where it "
        "diverged."
    ),
    "step": (
        "Means over seeds of each contender's best config by step, as the other program counted "
        "them; bands reach from the lowest to the highest seed."
    ),
}


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """mean, low, high: over the n seeds that were measured at this epoch; low and high are the
    lowest and the highest of them."""

    epoch: int
    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class LearningCurve:
    task: str
    contender: str
    metric: str
    epochs: tuple[CurvePoint, ...]


@dataclass(frozen=True, slots=True)
class LearningCurves:
    """step: what a curve's points are: "epoch", or another program's "step"."""

    curves: tuple[LearningCurve, ...]
    insufficient: str
    step: str = "epoch"


def record(comparison: Comparison) -> LearningCurves | None:
    tournament = make_tournament(comparison)
    if tournament is None:
        return None
    if comparison.details is None:
        external = comparison.external is not None
        return LearningCurves((), "each trial has one value") if external else None
    metrics = list(dict.fromkeys((comparison.score.metric, TRAIN_LOSS)))
    history = comparison.details.histories(tournament.run_ids(), metrics)
    if history.empty:
        return LearningCurves((), "no run has a history of these metrics")
    entry_of = {
        run: key for key, entry in tournament.entries.items() for run in entry.run_ids.values()
    }
    keys = [entry_of[run] for run in history["run_id"]]
    table = history.assign(task=[task for task, _ in keys], contender=[name for _, name in keys])
    points = {
        key: _points(of.groupby("step")["value"].agg(["size", "mean", "min", "max"]))
        for key, of in table.groupby(["metric", "task", "contender"])
    }
    curves = tuple(
        LearningCurve(task, name, metric, points[metric, task, name])
        for metric, task, name in product(metrics, tournament.tasks, tournament.contenders)
        if (metric, task, name) in points
    )
    return LearningCurves(curves, "", comparison.step)


def blocks(curves: LearningCurves) -> tuple[Block, ...]:
    reason = curves.insufficient
    return (Paragraph(f"Insufficient data: {reason}." if reason else INTRO[curves.step]),)


def figures(curves: LearningCurves) -> tuple[Figure, ...]:
    charts: dict[tuple[str, str], list[LineSeries]] = {}
    for curve in curves.curves:
        points = tuple(Point(e.epoch, e.mean, e.low, e.high) for e in curve.epochs)
        line = LineSeries(curve.contender, points)
        charts.setdefault((curve.task, curve.metric), []).append(line)
    return tuple(
        LineChart(
            title=with_task(metric, task),
            x=curves.step,
            y=metric,
            band="lowest to highest seed",
            lines=tuple(lines),
        )
        for (task, metric), lines in charts.items()
    )


def _points(epochs: pd.DataFrame) -> tuple[CurvePoint, ...]:
    """epochs: indexed by step, with columns size, mean, min, max."""
    every = max(1, -(-len(epochs) // MOST_POINTS))
    drawn = epochs.iloc[sorted({*range(0, len(epochs), every), len(epochs) - 1})]
    return tuple(
        CurvePoint(int(step), int(size), float(mean), float(low), float(high))
        for step, size, mean, low, high in drawn.itertuples()
    )


SECTION = Section("curves", "Learning curves", record, blocks, figures, order=45)
