"""Time to the target: performance profiles and the AlgoPerf score, in epochs or in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import pandas as pd

from harness.analysis.comparison import Comparison
from harness.analysis.performance_profile import (
    CONTENDER,
    LONGEST,
    TASK,
    AlgoPerfScore,
    Profile,
    algoperf_scores,
    profiles,
)
from harness.analysis.tournament import Tournament, make_tournament
from harness.core.metrics import EPOCHS_TO_TARGET, TRAIN_SECONDS
from harness.core.text import plural
from harness.report.blocks import Block, Paragraph, ReportTable, columns
from harness.report.figures import Figure, LineChart, LineSeries, Point
from harness.report.formatting import MISSING, figure
from harness.report.section import Section


@dataclass(frozen=True, slots=True)
class TargetTime:
    """median: over seeds, None for a miss. reached: by how many of the n seeds."""

    contender: str
    task: str
    median: float | None
    reached: int
    n: int


@dataclass(frozen=True, slots=True)
class TimeToTarget:
    """unit: "epochs", or "seconds" if every trial had its device to itself.
    untimed: tasks left out because an untrained net is at the target or a contender has no result.
    """

    metric: str
    target: float | None
    unit: str
    times: tuple[TargetTime, ...]
    scores: tuple[AlgoPerfScore, ...]
    profiles: tuple[Profile, ...]
    tasks: int
    untimed: tuple[str, ...]
    insufficient: str


def record(comparison: Comparison) -> TimeToTarget | None:
    tournament = make_tournament(comparison)
    if tournament is None:
        return None
    metric, target = comparison.score.selected_on, comparison.target
    if target is None:
        reason = "the experiment has no target"
        return TimeToTarget(metric, None, "epochs", (), (), (), 0, (), reason)
    unit, by_run = _times(comparison, tournament)
    # A miss, or a trial that diverged, takes infinitely long.
    values = {
        key: [by_run.get(run_id, np.inf) for run_id in entry.run_ids.values()]
        for key, entry in tournament.entries.items()
    }
    times = tuple(
        _over_seeds(name, task, values.get((task, name), []))
        for task in tournament.tasks
        for name in tournament.contenders
    )
    table, untimed = _table(tournament, values)
    if table.empty:
        reason = "no task has a time of every contender"
        return TimeToTarget(metric, target, unit, times, (), (), 0, untimed, reason)
    scores, of_profiles, tasks = algoperf_scores(table), profiles(table), table.shape[1]
    return TimeToTarget(metric, target, unit, times, scores, of_profiles, tasks, untimed, "")


def blocks(timed: TimeToTarget) -> tuple[Block, ...]:
    if timed.insufficient:
        return (Paragraph(f"Insufficient data: {timed.insufficient}."),)
    rows = tuple(
        (
            s.contender,
            figure(s.score, 3),
            MISSING if s.lowest is None else f"{figure(s.lowest, 3)} – {figure(s.highest, 3)}",
            MISSING if s.lowest is None else f"{s.lead} of {timed.tasks}",
            str(s.missed),
        )
        for s in timed.scores
    )
    titles = ("score", "leave one out", "leads in", "tasks missed")
    intro = (
        f"{timed.unit.capitalize()} until {timed.metric} reaches {timed.target:g}, the median over "
        f"seeds, on {plural(timed.tasks, 'task')}. The AlgoPerf score is 1 for the fastest on "
        "every task, and 0 for four times as slow or a miss."
    )
    notes = []
    if timed.untimed:
        notes.append(f"Left out: {'; '.join(timed.untimed)}.")
    if timed.tasks == 1:
        notes.append("One task: insufficient data to say how stable the score is.")
    table = ReportTable(columns("contender", numeric=titles), rows)
    return (Paragraph(intro), table, *map(Paragraph, notes))


def figures(timed: TimeToTarget) -> tuple[Figure, ...]:
    if not timed.profiles:
        return ()
    return (
        LineChart(
            title=f"Performance profile: {timed.unit} to {timed.metric} {timed.target:g}",
            x="times the fastest",
            y="share of tasks",
            lines=tuple(LineSeries(of.contender, _steps(of)) for of in timed.profiles),
            steps=True,
        ),
    )


def _steps(profile: Profile) -> tuple[Point, ...]:
    """Returns the steps that the score counts."""
    steps = zip(profile.ratios, profile.shares, strict=True)
    points = [Point(ratio, share) for ratio, share in steps if ratio <= LONGEST]
    return (*points, Point(LONGEST, points[-1].y))


def _times(comparison: Comparison, tournament: Tournament) -> tuple[str, Mapping[str, float]]:
    """Returns the unit, and the time of each run that reached the target: in seconds of training if
    every trial had its device to itself, on one model of device, and all of these times can be
    read; else in epochs."""
    trials = comparison.trials.set_index("run_id")
    reached = trials[EPOCHS_TO_TARGET] if EPOCHS_TO_TARGET in trials else pd.Series(dtype=float)
    epochs = {str(run): float(epoch) for run, epoch in reached.items() if np.isfinite(epoch)}
    compared = trials.loc[tournament.run_ids()]
    alone = compared["exclusive"].all() and compared["device_name"].nunique() <= 1
    if comparison.details is None or not alone:
        return "epochs", epochs
    hits = {run: (run, int(epochs[run])) for run in tournament.run_ids() if run in epochs}
    clock = comparison.details.histories(list(hits), [TRAIN_SECONDS])
    seconds = {
        (str(run), int(step)): float(value)
        for run, step, value in zip(clock["run_id"], clock["step"], clock["value"], strict=True)
    }
    if not seconds.keys() >= set(hits.values()):
        return "epochs", epochs
    return "seconds", {run: seconds[key] for run, key in hits.items()}


def _table(
    tournament: Tournament, values: Mapping[tuple[str, str], list[float]]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Returns the median times [contender, task], and the tasks that are left out."""
    complete, names = tournament.complete_tasks(), tournament.contenders
    medians = pd.DataFrame(
        [[float(np.median(values[task, name])) for task in complete] for name in names],
        index=pd.Index(names, name=CONTENDER),
        columns=pd.Index(complete, name=TASK),
        dtype=float,
    )
    timed = [task for task in complete if (medians[task] > 0).all()]
    return medians[timed], tuple(task for task in tournament.tasks if task not in timed)


def _over_seeds(contender: str, task: str, values: Sequence[float]) -> TargetTime:
    median = float(np.median(values or [np.inf]))
    reached = sum(map(isfinite, values))
    return TargetTime(contender, task, median if isfinite(median) else None, reached, len(values))


SECTION = Section("time_to_target", "Time to target", record, blocks, figures, order=65)
