"""What tuning gained: each study's winner beside its default, on the same fresh seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.comparison import TASK, Comparison
from harness.analysis.summary import Interval, bootstrap
from harness.core.records import Outcome
from harness.store.names import BOTH, DEFAULT, PARAM_CONFIG, TUNED


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """One measure of one study. n: seeds on which both are done; the means are over them.

    difference, interval: of tuned − default, paired by seed, in the measure's unit. None: no seed
    has both.
    """

    metric: str
    n: int
    default: float | None
    tuned: float | None
    difference: float | None
    interval: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """default_won: the search found nothing better than the default. unfinished: trials of either
    that are not done. gains: of the selection metric, then of the test split where it was measured.
    """

    task: str
    study: str
    default_won: bool
    unfinished: int
    gains: tuple[Gain, ...]


def gains(comparison: Comparison) -> tuple[Study, ...]:
    """Every study with a winner among the trials compared, in the order they were trained."""
    trials = comparison.trials[comparison.trials["role"] != ""]
    return tuple(
        _study(str(task), str(study), of, comparison)
        for (task, study), of in trials.groupby([TASK, "study"], sort=False)
    )


def _study(task: str, study: str, trials: pd.DataFrame, comparison: Comparison) -> Study:
    tuned = _latest(trials[trials["role"].isin((TUNED, BOTH))])
    default = _latest(trials[trials["role"].isin((DEFAULT, BOTH))])
    columns = {comparison.score.metric: comparison.score.column}
    if comparison.score.test is not None and comparison.score.test_column is not None:
        columns[comparison.score.test] = comparison.score.test_column
    both = pd.concat([tuned, default])
    return Study(
        task=task,
        study=study,
        default_won=bool((tuned["role"] == BOTH).any()),
        unfinished=int((both["outcome"] != Outcome.DONE).sum()),
        gains=tuple(
            _gain(metric, _by_seed(tuned, column), _by_seed(default, column), comparison)
            for metric, column in columns.items()
        ),
    )


def _latest(trials: pd.DataFrame) -> pd.DataFrame:
    """Those of the config that was trained last: a search that went on may have a new winner."""
    if trials.empty:
        return trials
    newest = trials.sort_values("started")[PARAM_CONFIG].iloc[-1]
    last: pd.DataFrame = trials[trials[PARAM_CONFIG] == newest]
    return last


def _by_seed(trials: pd.DataFrame, column: str) -> pd.Series[float]:
    done = trials[trials["outcome"] == Outcome.DONE]
    return done.set_index("seed")[column].astype(float).dropna()


def _gain(
    metric: str, tuned: pd.Series[float], default: pd.Series[float], comparison: Comparison
) -> Gain:
    seeds = tuned.index.intersection(default.index)
    a, b = np.asarray(tuned[seeds], dtype=float), np.asarray(default[seeds], dtype=float)
    return Gain(
        metric=metric,
        n=len(seeds),
        default=float(b.mean()) if b.size else None,
        tuned=float(a.mean()) if a.size else None,
        difference=float((a - b).mean()) if a.size else None,
        interval=bootstrap(a - b, comparison.generator("gains")),
    )
