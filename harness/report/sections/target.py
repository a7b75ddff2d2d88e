"""Time to the target: performance profiles and AlgoPerf's score, in epochs or in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.profile import CONTENDER, LONGEST, TASK, Profile, Score, profiles, scores
from harness.analysis.tournament import Tournament, tournament
from harness.core.metrics import EPOCHS_TO_TARGET, TRAIN_SECONDS
from harness.core.text import plural
from harness.report.blocks import Block, Column, Paragraph, Table
from harness.report.figures import Figure, Line, LineChart, Point
from harness.report.numbers import MISSING, figure
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class Time:
    """median: over seeds, None for a miss. reached: of n seeds."""

    contender: str
    task: str
    median: float | None
    reached: int
    n: int


@dataclass(frozen=True, slots=True)
class TimeToTarget:
    """unit: "epochs", or "seconds" where every trial had its device to itself. untimed: tasks left
    out because an untrained net is at the target, or a contender has no result."""

    metric: str
    target: float | None
    unit: str
    times: tuple[Time, ...]
    scores: tuple[Score, ...]
    profiles: tuple[Profile, ...]
    tasks: int
    untimed: tuple[str, ...]
    insufficient: str


def record(comparison: Comparison) -> TimeToTarget | None:
    games = tournament(comparison)
    if games is None:
        return None
    metric, target = comparison.score.selected_on, comparison.target
    if target is None:
        return TimeToTarget(
            metric, None, "epochs", (), (), (), 0, (), "the experiment has no target"
        )
    unit, values = _values(comparison, games)
    table, untimed = _table(games, values)
    times = tuple(
        _time(name, task, values.get((task, name), []))
        for task in games.tasks
        for name in games.contenders
    )
    if table.empty:
        reason = "no task has a time of every contender"
        return TimeToTarget(metric, target, unit, times, (), (), 0, untimed, reason)
    return TimeToTarget(
        metric, target, unit, times, scores(table), profiles(table), table.shape[1], untimed, ""
    )


def blocks(found: TimeToTarget) -> tuple[Block, ...]:
    if found.insufficient:
        return (Paragraph(f"Insufficient data: {found.insufficient}."),)
    columns = (
        Column("contender"),
        Column("score", numeric=True),
        Column("leave one out", numeric=True),
        Column("leads in", numeric=True),
        Column("tasks missed", numeric=True),
    )
    rows = tuple(
        (
            s.contender,
            figure(s.score, 3),
            MISSING if s.lowest is None else f"{figure(s.lowest, 3)} – {figure(s.highest, 3)}",
            MISSING if s.lowest is None else f"{s.lead} of {found.tasks}",
            str(s.missed),
        )
        for s in found.scores
    )
    intro = (
        f"{found.unit.capitalize()} until {found.metric} reaches {found.target:g}, the median over "
        f"seeds, on {plural(found.tasks, 'task')}. Score: AlgoPerf's, 1 for the fastest on every "
        "task, 0 for four times as slow or a miss."
    )
    notes = []
    if found.untimed:
        notes.append(f"Left out: {'; '.join(found.untimed)}.")
    if found.tasks == 1:
        notes.append("One task: insufficient data to say how stable the score is.")
    return (Paragraph(intro), Table(columns, rows), *map(Paragraph, notes))


def figures(found: TimeToTarget) -> tuple[Figure, ...]:
    if not found.profiles:
        return ()
    lines = tuple(Line(profile.contender, _steps(profile)) for profile in found.profiles)
    return (
        LineChart(
            title=f"Performance profile: {found.unit} to {found.metric} {found.target:g}",
            x="times the fastest",
            y="part of tasks",
            lines=lines,
            steps=True,
        ),
    )


def _steps(profile: Profile) -> tuple[Point, ...]:
    """As far as the score counts."""
    steps = zip(profile.ratios, profile.shares, strict=True)
    points = [Point(ratio, share) for ratio, share in steps if ratio <= LONGEST]
    return (*points, Point(LONGEST, points[-1].y))


def _values(
    comparison: Comparison, games: Tournament
) -> tuple[str, Mapping[tuple[str, str], list[float]]]:
    """Each entry's time by seed, infinite for a miss or a trial that diverged."""
    trials = comparison.trials.set_index("run_id")
    reached = trials[EPOCHS_TO_TARGET].dropna() if EPOCHS_TO_TARGET in trials else pd.Series()
    epochs = {str(run): float(epoch) for run, epoch in reached.items()}
    seconds = _seconds(comparison, games, epochs)
    by_run = epochs if seconds is None else seconds
    values = {
        key: [_or_miss(by_run.get(run_id)) for run_id in entry.run_ids.values()]
        for key, entry in games.entries.items()
    }
    return ("epochs" if seconds is None else "seconds"), values


def _seconds(
    comparison: Comparison, games: Tournament, epochs: Mapping[str, float]
) -> Mapping[str, float] | None:
    """Seconds of training at the epoch that reached the target; None unless every trial had its
    device to itself and the clock of each can be read."""
    runs = [run for entry in games.entries.values() for run in entry.run_ids.values()]
    trials = comparison.trials.set_index("run_id").loc[runs]
    if comparison.details is None or not trials["exclusive"].all():
        return None
    if trials["device_name"].nunique() > 1:
        return None
    hits = {run: epochs[run] for run in runs if run in epochs}
    clock = comparison.details.histories(list(hits), [TRAIN_SECONDS])
    at = {
        (str(run), int(step)): float(value)
        for run, step, value in zip(clock["run_id"], clock["step"], clock["value"], strict=True)
    }
    found = {run: at.get((run, int(epoch))) for run, epoch in hits.items()}
    if any(value is None for value in found.values()):
        return None
    return {run: value for run, value in found.items() if value is not None}


def _table(
    games: Tournament, values: Mapping[tuple[str, str], list[float]]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    complete = games.complete()
    medians = pd.DataFrame(
        [[float(np.median(values[task, name])) for task in complete] for name in games.contenders],
        index=pd.Index(games.contenders, name=CONTENDER),
        columns=pd.Index(complete, name=TASK),
        dtype=float,
    )
    timed = [task for task in complete if (medians[task] > 0).all()]
    return medians[timed], tuple(task for task in games.tasks if task not in timed)


def _time(contender: str, task: str, values: list[float]) -> Time:
    median = float(np.median(values)) if values else np.inf
    return Time(
        contender,
        task,
        median if np.isfinite(median) else None,
        int(np.isfinite(values).sum()) if values else 0,
        len(values),
    )


def _or_miss(value: float | None) -> float:
    return float(value) if value is not None and np.isfinite(value) else float(np.inf)


SECTION = Section(
    name="time_to_target",
    title="Time to target",
    place=65,
    record=record,
    blocks=blocks,
    figures=figures,
)
