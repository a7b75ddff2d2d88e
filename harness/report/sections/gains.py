"""What tuning gained: each study's winner against its default, on the same fresh seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.comparison import TASK, Comparison
from harness.analysis.resolution import differences, mean_difference, noise_of, resolution_of
from harness.analysis.statistics import Interval, bootstrap
from harness.core.records import Outcome
from harness.core.text import join_with_and, plural
from harness.report.blocks import Block, Paragraph, ReportTable, by_task, columns
from harness.report.formatting import bracketed, decimals_for, signed, significant
from harness.report.section import Section
from harness.store.names import BOTH, DEFAULT, PARAM_CONFIG, TUNED

INTRO = (
    "Means over fresh seeds, on which nothing was chosen. The gain is paired by seed, with its 95% "
    "interval."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningGain:
    """One metric of one study.

    n: seeds on which both are done; the means are over these.
    difference, interval: of tuned − default, paired by seed, in the metric's unit. None if no seed
        has both.
    """

    metric: str
    n: int
    default: float | None
    tuned: float | None
    difference: float | None
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyGains:
    """default_won: whether the search found nothing better than the default.
    unfinished: trials of either that are not done.
    gains: of the selection metric, then of the test split if it was measured."""

    task: str
    study: str
    default_won: bool
    unfinished: int
    gains: tuple[TuningGain, ...]


@dataclass(frozen=True, slots=True)
class Gains:
    """Every study with a winner, in the order of training. seeds: the most that a study has of
    both."""

    studies: tuple[StudyGains, ...]
    seeds: int


def record(comparison: Comparison) -> Gains | None:
    trials = comparison.trials[comparison.trials["role"] != ""]
    studies = tuple(
        _study(str(task), str(study), of, comparison)
        for (task, study), of in trials.groupby([TASK, "study"], sort=False)
    )
    if not studies:
        return None
    return Gains(studies, max(gain.n for study in studies for gain in study.gains))


def blocks(gains: Gains) -> tuple[Block, ...]:
    tasks = by_task(gains.studies)
    tables = [_table(task if len(tasks) > 1 else "", of) for task, of in tasks.items()]
    notes = []
    if default_won := [study.study for study in gains.studies if study.default_won]:
        notes.append(
            f"The search found nothing better than the default of {join_with_and(default_won)}."
        )
    if unfinished := sum(study.unfinished for study in gains.studies):
        notes.append(f"Not done, and left out of the means: {plural(unfinished, 'trial')}.")
    return (Paragraph(INTRO), *tables, *map(Paragraph, notes))


def _study(task: str, study: str, trials: pd.DataFrame, comparison: Comparison) -> StudyGains:
    tuned = _latest_config(trials[trials["role"].isin((TUNED, BOTH))])
    default = _latest_config(trials[trials["role"].isin((DEFAULT, BOTH))])
    score = comparison.score
    metrics = {score.metric: score.column}
    if score.test is not None and score.test_column is not None:
        metrics[score.test] = score.test_column
    return StudyGains(
        task=task,
        study=study,
        default_won=bool((tuned["role"] == BOTH).any()),
        unfinished=int((pd.concat([tuned, default])["outcome"] != Outcome.DONE).sum()),
        gains=tuple(
            _gain(metric, _by_seed(tuned, column), _by_seed(default, column), comparison)
            for metric, column in metrics.items()
        ),
    )


def _latest_config(trials: pd.DataFrame) -> pd.DataFrame:
    """Returns the trials of the config that was trained last: a search that is continued may have a
    new winner."""
    newest = trials.sort_values("started")[PARAM_CONFIG].tail(1)
    return trials[trials[PARAM_CONFIG].isin(newest)]


def _by_seed(trials: pd.DataFrame, column: str) -> pd.Series[float]:
    done = trials[trials["outcome"] == Outcome.DONE]
    return done.set_index("seed")[column].astype(float).dropna()


def _gain(
    metric: str, tuned: pd.Series[float], default: pd.Series[float], comparison: Comparison
) -> TuningGain:
    seeds = tuned.index.intersection(default.index)
    a, b = np.asarray(tuned[seeds], dtype=float), np.asarray(default[seeds], dtype=float)
    resolution = resolution_of([*tuned, *default])
    gained, noise = differences(a, b, resolution), noise_of(a, b, resolution=resolution)
    return TuningGain(
        metric=metric,
        n=len(seeds),
        default=float(b.mean()) if b.size else None,
        tuned=float(a.mean()) if a.size else None,
        difference=mean_difference(gained, noise),
        interval=bootstrap(gained, comparison.generator("gains"), noise),
    )


def _table(task: str, studies: Sequence[StudyGains]) -> ReportTable:
    decimals = decimals_for(gain.tuned for study in studies for gain in study.gains)
    rows = tuple(
        (
            study.study if gain is study.gains[0] else "",
            gain.metric,
            significant(gain.default, decimals),
            significant(gain.tuned, decimals),
            _difference(gain, decimals),
            str(gain.n),
        )
        for study in studies
        for gain in study.gains
    )
    titles = columns("study", "measure", numeric=("default", "tuned", "gain", "n"))
    return ReportTable(titles, rows, caption=task)


def _difference(gain: TuningGain, decimals: int) -> str:
    text = signed(gain.difference, decimals)
    return text if gain.difference is None else f"{text} {bracketed(gain.interval, decimals)}"


SECTION = Section("gains", "Tuned against default", record, blocks, order=25, brief=True)
