"""Sensitivity to the learning rate: which rates are too low, good, too high, or diverge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from math import isfinite

import numpy as np

from harness.analysis.comparison import TASK, Comparison
from harness.analysis.configs import STUDY, learning_rate, name_of
from harness.analysis.sensitivity import KEPT, FinalScores, Sensitivity, sensitivity
from harness.analysis.tournament import varying_task_fields
from harness.core.metrics import FINAL
from harness.core.records import FINISHED, Outcome
from harness.core.text import format_value
from harness.experiment.trial import METHOD_FIELDS
from harness.report.blocks import Block, Column, Paragraph, ReportTable, by_task, columns, with_task
from harness.report.figures import Figure, LineChart, LineSeries, Point
from harness.report.formatting import MISSING, figure
from harness.report.section import Section, about_points, points_tried
from harness.store.names import PARAM_CONFIG, PARAM_TRIAL

NOT_OF_UNTRAINED = (*METHOD_FIELDS, PARAM_TRIAL, PARAM_CONFIG)
"""Fields that an untrained net does not depend on: of trials that differ in these alone, one is
enough to read its score."""
MOST_GROUPS = 60
MOST_RATES = 30
"""Most learning rates that a table lists; a figure shows more."""
OTHER_RATES = (
    "The contenders were tried at different learning rates: each sensitivity is over a contender's "
    "own rates, and they cannot be compared with each other."
)
UNKNOWN = "Insufficient data for regimes where the untrained net's score is not known."


@dataclass(frozen=True, slots=True)
class LearningRateSensitivity:
    """tried: how many points of a search this is about; 0 if it is about the trials compared.
    step: what the last value of a trial belongs to: "epoch", or another program's "step"."""

    metric: str
    direction: str
    groups: tuple[Sensitivity, ...]
    left_out: int
    insufficient: str
    tried: int
    step: str = "epoch"


def record(comparison: Comparison) -> LearningRateSensitivity | None:
    tried = points_tried(comparison)
    comparison = comparison.exploration
    if "lr" not in comparison.shown:
        return None
    metric, direction = comparison.score.metric, comparison.score.direction
    step = comparison.step
    if FINAL + metric not in comparison.trials:
        missing = f"no trial has {metric} after its last {step}"
        return LearningRateSensitivity(metric, direction, (), 0, missing, tried, step)
    contend_by: tuple[str, ...] = ("optimizer",) if "optimizer" in comparison.shown else ()
    if comparison.external is not None:
        contend_by = tuple(name for name in comparison.contend_by if name not in ("lr", TASK))
    if STUDY in comparison.contend_by:
        contend_by = (STUDY,)
    task_fields = varying_task_fields(comparison, ())
    groups = _final_scores(comparison, FINAL + metric, task_fields, contend_by)
    untrained = _untrained_scores(comparison, metric, task_fields)
    generator = comparison.generator("sensitivity")
    labelled = [
        sensitivity(task, name, finals, untrained.get(task), direction, generator)
        for (task, name), finals in list(groups.items())[:MOST_GROUPS]
        if len({of.lr for of in finals}) > 1
    ]
    left_out = max(len(groups) - MOST_GROUPS, 0)
    return LearningRateSensitivity(metric, direction, tuple(labelled), left_out, "", tried, step)


def blocks(rates: LearningRateSensitivity) -> tuple[Block, ...]:
    if rates.insufficient or not rates.groups:
        reason = rates.insufficient or "no contender has two learning rates"
        return (Paragraph(f"Insufficient data: {reason}."),)
    intro = Paragraph(
        f"Mean {rates.metric} over seeds after the last {rates.step}, at the best of whatever else "
        f"varies. A good lr keeps {KEPT:.0%} of the best lr's gain over the untrained net; too low "
        "and too high lie below and above the best; diverged: half of the trials or more. "
        "Sensitivity: the mean share of the gain that is lost over the grid; 0 is none."
    )
    unknown = any(group.untrained is None for group in rates.groups)
    differ = rates.tried == 0 and any(map(_tried_differ, by_task(rates.groups).values()))
    cautions = [text for text, said in ((UNKNOWN, unknown), (OTHER_RATES, differ)) if said]
    return (
        *about_points(rates.tried),
        intro,
        *(Paragraph(text, "caution") for text in cautions),
        *(table for task, of in by_task(rates.groups).items() for table in _tables(task, of)),
    )


def _tried_differ(groups: Sequence[Sensitivity]) -> bool:
    return len({tuple(rate.lr for rate in group.rates) for group in groups}) > 1


def figures(rates: LearningRateSensitivity) -> tuple[Figure, ...]:
    return tuple(
        LineChart(
            title=with_task(f"{rates.metric} after the last {rates.step} over lr", task),
            x="lr",
            y=rates.metric,
            log_x=True,
            band="95% interval over seeds",
            lines=tuple(LineSeries(group.contender or "all", _points(group)) for group in groups),
        )
        for task, groups in by_task(rates.groups).items()
    )


def _points(group: Sensitivity) -> tuple[Point, ...]:
    return tuple(
        Point(rate.lr, rate.final, rate.interval.low, rate.interval.high)
        for rate in group.rates
        if rate.final is not None and rate.lr > 0
    )


def _final_scores(
    comparison: Comparison, column: str, task_fields: Sequence[str], contend_by: Sequence[str]
) -> dict[tuple[str, str], list[FinalScores]]:
    """Returns the final scores of configs by task and contender, with the contenders in the same
    order on each task, so that a contender keeps its colour."""
    trials = comparison.trials
    done = trials[(trials["outcome"] == Outcome.DONE) & np.isfinite(trials[column].astype(float))]
    values = {str(config): tuple(of) for config, of in done.groupby(PARAM_CONFIG)[column]}
    groups: dict[tuple[str, str], list[FinalScores]] = {}
    for config in comparison.configs:
        scores, lr = values.get(config.config_id, ()), learning_rate(config.labels)
        if (scores or config.diverged) and lr is not None:
            finals = FinalScores(lr=lr, values=scores, diverged=config.diverged)
            key = name_of(config.labels, task_fields), name_of(config.labels, contend_by)
            groups.setdefault(key, []).append(finals)
    tasks = dict.fromkeys(task for task, _ in groups)
    names = dict.fromkeys(name for _, name in groups)
    return {key: groups[key] for key in product(tasks, names) if key in groups}


def _untrained_scores(
    comparison: Comparison, metric: str, task_fields: Sequence[str]
) -> dict[str, float | None]:
    """Returns the mean score of the untrained nets of each task. Weights at epoch 0 depend on model
    and seed alone, so that one run of each is read. What step 0 of another program is, nobody says.
    """
    if comparison.details is None or comparison.external is not None:
        return {}
    labels = {config.config_id: config.labels for config in comparison.configs}
    trials = comparison.trials[comparison.trials["outcome"].isin(FINISHED)]
    same = [
        name
        for name in comparison.fields
        if name.partition(".")[0] not in NOT_OF_UNTRAINED and name in trials
    ]
    trials = trials.drop_duplicates(same) if same else trials
    history = comparison.details.histories(list(trials["run_id"]), [metric])
    first = history[history["step"] == 0].set_index("run_id")["value"]
    configs = zip(trials["run_id"], trials[PARAM_CONFIG], strict=True)
    task_of = {run: name_of(labels[str(config)], task_fields) for run, config in configs}
    means = first.groupby(first.index.map(task_of)).mean()
    return {str(task): float(of) if isfinite(of) else None for task, of in means.items()}


def _tables(task: str, groups: Sequence[Sensitivity]) -> tuple[ReportTable, ...]:
    rates = sorted({rate.lr for group in groups for rate in group.rates})
    if len(rates) > MOST_RATES:
        return (_summary(task, groups),)
    titles = (Column("lr", numeric=True), *(Column(g.contender or "all") for g in groups))
    regimes = [{rate.lr: str(rate.regime) for rate in group.rates} for group in groups]
    rows = tuple((format_value(lr), *(of.get(lr, MISSING) for of in regimes)) for lr in rates)
    return ReportTable(titles, rows, caption=task), _summary(task, groups)


def _summary(task: str, groups: Sequence[Sensitivity]) -> ReportTable:
    titles = (
        *(Column("contender"), Column("best lr", numeric=True), Column("in grid")),
        *columns(numeric=("good from", "to", "decades", "sensitivity")),
    )
    rows = []
    for group in groups:
        low, high = map(_rate, group.good) if group.good else (MISSING, MISSING)
        width = MISSING if group.decades is None else f"{group.decades:.1f}"
        rows.append(
            (
                group.contender or "all",
                MISSING if group.best is None else _rate(group.best),
                MISSING if group.edge is None else group.edge or "inside",
                low,
                high,
                f"≥ {width}" if group.open_ended else width,
                figure(group.sensitivity, 2),
            )
        )
    return ReportTable(titles, tuple(rows), caption=task)


def _rate(lr: float) -> str:
    """Returns a learning rate with six digits: those that a search draws have sixteen."""
    return format_value(float(f"{lr:.6g}"))


SECTION = Section("sensitivity", "Learning-rate sensitivity", record, blocks, figures, order=70)
