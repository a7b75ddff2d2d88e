"""Best epochs under one goal, for trials that ran under another.

A run's `best/…` and `…_to_target` scalars are of the goal in force when it ran. Where the
experiment's `metric:` or `target:` has changed since, they are taken anew from the run's curves.
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


def under_goal(trials: pd.DataFrame, goal: Goal, details: RunDetails) -> pd.DataFrame:
    """The table of trials with every best epoch and time to target by `goal`.

    Rows of that goal are left as they are. `examples_to_target` is not in the curves: where the
    goal changed it is scaled by what the run saw in an epoch, or missing.
    """
    same = _of_goal(trials, goal)
    if same.all():
        return trials
    derived = [name for name in trials.columns if name.startswith(BEST)]
    metrics = [name.removeprefix(BEST) for name in derived if name != BEST_EPOCH]
    fresh = _scalars(list(trials.loc[~same, "run_id"]), metrics, goal, details)
    changed = trials.copy()
    for name in dict.fromkeys((*derived, EPOCHS_TO_TARGET, *fresh.columns)):
        column = fresh.get(name, pd.Series(dtype=float))
        before = trials.get(name, pd.Series(float("nan"), trials.index))
        changed[name] = before.where(same, trials["run_id"].map(column))
    if EXAMPLES_TO_TARGET in trials.columns:
        an_epoch = trials[EXAMPLES_TO_TARGET] / trials[EPOCHS_TO_TARGET]
        changed[EXAMPLES_TO_TARGET] = trials[EXAMPLES_TO_TARGET].where(
            same, changed[EPOCHS_TO_TARGET] * an_epoch
        )
    return changed


def _of_goal(trials: pd.DataFrame, goal: Goal) -> pd.Series[bool]:
    stored = pd.to_numeric(trials["target"], errors="coerce")
    same_target = stored.isna() if goal.target is None else stored == goal.target
    return (trials["metric"] == goal.metric) & (trials["direction"] == goal.direction) & same_target


def _scalars(
    run_ids: list[str], metrics: list[str], goal: Goal, details: RunDetails
) -> pd.DataFrame:
    """One row a run, by its id; read some runs at a time, so that memory is bounded."""
    found: dict[str, dict[str, float]] = {}
    for start in range(0, len(run_ids), RUNS_AT_ONCE):
        curves = details.histories(run_ids[start : start + RUNS_AT_ONCE], metrics)
        for run_id, points in curves.groupby("run_id"):
            scalars = summarise_trial(_history(points), {}, goal)
            scalars.pop(EXAMPLES_TO_TARGET, None)
            found[str(run_id)] = scalars
    return pd.DataFrame.from_dict(found, orient="index", dtype=float)


def _history(points: pd.DataFrame) -> list[Measured]:
    """Of one run's points; how many examples it had seen is not stored, and not asked for."""
    values: dict[int, dict[str, float]] = {}
    for metric, step, value in zip(points["metric"], points["step"], points["value"], strict=True):
        values.setdefault(int(step), {})[str(metric)] = float(value)
    return [Measured(epoch, values[epoch], 0) for epoch in sorted(values)]
