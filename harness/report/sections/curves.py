"""Learning curves of each contender's best config, over its seeds."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.tournament import Tournament, tournament
from harness.report.blocks import Block, Paragraph
from harness.report.figures import Figure, Line, LineChart, Point
from harness.report.section import Section

TRAIN_LOSS = "train/loss"
MOST_POINTS = 200
"""Epochs of a curve that are drawn; of more, evenly spread ones."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """mean, low, high: over the seeds that were measured at this epoch, n of them; low and high
    are the worst and the best of them."""

    epoch: int
    n: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Curve:
    task: str
    contender: str
    metric: str
    epochs: tuple[Epoch, ...]


@dataclass(frozen=True, slots=True)
class Curves:
    curves: tuple[Curve, ...]
    insufficient: str


def record(comparison: Comparison) -> Curves | None:
    games = tournament(comparison)
    if games is None or comparison.details is None:
        return None
    metrics = list(dict.fromkeys((comparison.score.metric, TRAIN_LOSS)))
    runs = [run for entry in games.entries.values() for run in entry.run_ids.values()]
    history = comparison.details.histories(runs, metrics)
    if history.empty:
        return Curves((), "no run has a history of these metrics")
    return Curves(_curves(games, history, metrics), "")


def blocks(curves: Curves) -> tuple[Block, ...]:
    if curves.insufficient:
        return (Paragraph(f"Insufficient data: {curves.insufficient}."),)
    return (
        Paragraph(
            "Means over seeds of each contender's best config by epoch (0 is untrained); bands "
            "reach from the lowest to the highest seed. A seed that diverged ends where it did."
        ),
    )


def figures(curves: Curves) -> tuple[Figure, ...]:
    groups = dict.fromkeys((curve.task, curve.metric) for curve in curves.curves)
    return tuple(
        LineChart(
            title=f"{metric}{f': {task}' if task else ''}",
            x="epoch",
            y=metric,
            band="lowest to highest seed",
            lines=tuple(
                Line(c.contender, tuple(Point(e.epoch, e.mean, e.low, e.high) for e in c.epochs))
                for c in curves.curves
                if (c.task, c.metric) == (task, metric)
            ),
        )
        for task, metric in groups
    )


def _curves(games: Tournament, history: pd.DataFrame, metrics: list[str]) -> tuple[Curve, ...]:
    found = {
        run: (task, name)
        for (task, name), entry in games.entries.items()
        for run in entry.run_ids.values()
    }
    keys = pd.DataFrame(
        [found[run] for run in history["run_id"]],
        columns=["task", "contender"],
        index=history.index,
    )
    table = pd.concat([history[["metric", "step", "value"]], keys], axis=1)
    found_curves = {
        (str(metric), str(task), str(name)): _epochs(
            of.groupby("step")["value"].agg(["size", "mean", "min", "max"])
        )
        for (metric, task, name), of in table.groupby(["metric", "task", "contender"])
    }
    return tuple(
        Curve(task, name, metric, found_curves[metric, task, name])
        for metric in metrics
        for task in games.tasks
        for name in games.contenders
        if (metric, task, name) in found_curves
    )


def _epochs(rows: pd.DataFrame) -> tuple[Epoch, ...]:
    every = max(1, -(-len(rows) // MOST_POINTS))
    kept = rows.iloc[::every]
    if len(rows) and kept.index[-1] != rows.index[-1]:
        kept = pd.concat([kept, rows.iloc[[-1]]])
    return tuple(
        Epoch(int(step), int(size), float(mean), float(low), float(high))
        for step, size, mean, low, high in zip(
            kept.index, kept["size"], kept["mean"], kept["min"], kept["max"], strict=True
        )
    )


SECTION = Section(
    name="curves", title="Learning curves", place=45, record=record, blocks=blocks, figures=figures
)
