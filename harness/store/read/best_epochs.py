"""Best epochs under one goal, for trials that ran under another.

A run's `best/…` and `…_to_target` metrics belong to the goal that was in force when it ran. If the
experiment's `metric:` or `target:` has changed since, they are taken from the run's history.
"""

from __future__ import annotations

import pandas as pd

from harness.core.metrics import (
    BEST,
    BEST_EPOCH,
    EPOCHS_TO_TARGET,
    EXAMPLES_TO_TARGET,
    Goal,
    summarise_trial,
)
from harness.core.records import Measured
from harness.store.read.run_details import RunDetails

RUNS_AT_ONCE = 500
"""How many runs' histories are read at once, which bounds memory."""


def with_goal(trials: pd.DataFrame, goal: Goal, details: RunDetails) -> pd.DataFrame:
    """Returns the table of trials with every best epoch and time to target by `goal`.

    Rows of that goal stay as they are. `examples_to_target` is not in the histories: for the other
    rows it is scaled by what the run saw in an epoch, or missing.
    """
    same = _has_goal(trials, goal)
    if same.all():
        return trials
    best_columns = [name for name in trials.columns if name.startswith(BEST)]
    metrics = [name.removeprefix(BEST) for name in best_columns if name != BEST_EPOCH]
    summaries = _summaries(list(trials.loc[~same, "run_id"]), metrics, goal, details)
    changed = trials.copy()
    for name in dict.fromkeys((*best_columns, EPOCHS_TO_TARGET, *summaries.columns)):
        new = trials["run_id"].map(summaries.get(name, pd.Series(dtype=float)))
        old = trials.get(name, pd.Series(float("nan"), trials.index))
        changed[name] = old.where(same, new)
    if EXAMPLES_TO_TARGET in trials.columns:
        an_epoch = trials[EXAMPLES_TO_TARGET] / trials[EPOCHS_TO_TARGET]
        changed[EXAMPLES_TO_TARGET] = trials[EXAMPLES_TO_TARGET].where(
            same, changed[EPOCHS_TO_TARGET] * an_epoch
        )
    return changed


def _has_goal(trials: pd.DataFrame, goal: Goal) -> pd.Series[bool]:
    targets = pd.to_numeric(trials["target"], errors="coerce")
    same_target = targets.isna() if goal.target is None else targets == goal.target
    return (trials["metric"] == goal.metric) & (trials["direction"] == goal.direction) & same_target


def _summaries(
    run_ids: list[str], metrics: list[str], goal: Goal, details: RunDetails
) -> pd.DataFrame:
    """Returns a row of summary metrics for each run, by its id."""
    summaries: dict[str, dict[str, float]] = {}
    for start in range(0, len(run_ids), RUNS_AT_ONCE):
        histories = details.histories(run_ids[start : start + RUNS_AT_ONCE], metrics)
        for run_id, points in histories.groupby("run_id"):
            values: dict[int, dict[str, float]] = {}
            columns = (points["metric"], points["step"], points["value"])
            for metric, step, value in zip(*columns, strict=True):
                values.setdefault(int(step), {})[str(metric)] = float(value)
            # How many examples it had seen is not stored.
            history = [Measured(epoch, values[epoch], 0) for epoch in sorted(values)]
            summary = summarise_trial(history, {}, goal)
            summary.pop(EXAMPLES_TO_TARGET, None)
            summaries[str(run_id)] = summary
    return pd.DataFrame.from_dict(summaries, orient="index", dtype=float)
