"""The trials that are compared: selected by a condition, or joined from several experiments."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.core.errors import InputError, Problem, require_known
from harness.core.text import format_value
from harness.experiment.grid import matches
from harness.store.names import ABSENT, PARAM_CONFIG
from harness.store.read.results import Results
from harness.store.read.run_details import JoinedRunDetails, RunDetails

Condition = Mapping[str, Any]
"""A condition as in an experiment file; see `matches`."""
EXPERIMENT = "experiment"
"""The field that tells joined experiments apart; `--by experiment` compares them."""
MOST_VALUES = 10
"""Most values of a field that an error message lists."""


def matching(trials: pd.DataFrame, condition: Condition) -> pd.DataFrame:
    """Returns the trials that meet a condition. A trial whose stored description is lost meets no
    condition."""
    if not condition:
        return trials
    meets = [
        isinstance(stored, str) and matches(condition, json.loads(stored))
        for stored in trials["trial"]
    ]
    return trials[meets]


def require_matching(
    trials: pd.DataFrame, fields: Sequence[str], condition: Condition
) -> pd.DataFrame:
    """Returns the trials that meet a condition.

    Raises InputError if no trial has one of the condition's fields, or if no trial meets the
    condition; the message lists the values that exist.
    """
    require_known(condition, fields, "no trial has a field")
    selected = matching(trials, condition)
    if selected.empty:
        wanted = ", ".join(f"{name}={format_value(value)}" for name, value in condition.items())
        present = "; ".join(f"{name} is one of {_values(trials[name])}" for name in condition)
        raise InputError(Problem(f"no trial has {wanted}", hint=present))
    return selected


def _values(column: pd.Series[Any]) -> str:
    values = sorted({str(value) for value in column}, key=natural)
    return ", ".join(values[:MOST_VALUES]) + (", …" if len(values) > MOST_VALUES else "")


def natural(value: str) -> tuple[int, float, str]:
    """Returns a sort key that puts numbers first, by size, and then text, by letters."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)


def join(results: Sequence[Results], names: Sequence[str]) -> Results:
    """Joins the results of several experiments into one, with an additional field "experiment".

    Equal configs of two experiments stay two configs, and are paired by seed.

    names: distinct names of the experiments.

    Raises InputError if the experiments are not selected on the same metric.
    """
    goals = {(result.metric, result.direction) for result in results}
    named = list(zip(names, results, strict=True))
    if len(goals) > 1:
        metrics = ", ".join(f"{name} on {result.metric}" for name, result in named)
        raise InputError(f"experiments that are joined must be selected on one metric: {metrics}")
    fields = dict.fromkeys([EXPERIMENT, *(name for result in results for name in result.fields)])
    tables = []
    for name, result in named:
        table = result.trials.copy()
        table[EXPERIMENT] = name
        table[PARAM_CONFIG] = name + ":" + table[PARAM_CONFIG].astype(str)
        tables.append(table)
    trials = pd.concat(tables, ignore_index=True)
    for field in fields:
        if field != "seed":
            trials[field] = trials[field].fillna(ABSENT)
    targets = {result.target for result in results}
    return replace(
        results[0],
        experiment=" + ".join(dict.fromkeys(names)),
        trials=trials,
        fields=tuple(fields),
        expect=(),
        target=targets.pop() if len(targets) == 1 else None,
        superseded=sum(result.superseded for result in results),
        parent_id="",
        details=_joined_details(results),
    )


def _joined_details(results: Sequence[Results]) -> JoinedRunDetails | None:
    """Reads each run's curves and files from the run's own store. None if a store is missing."""
    by_run = {
        str(run_id): result.details
        for result in results
        if isinstance(result.details, RunDetails)
        for run_id in result.trials["run_id"]
    }
    complete = len(by_run) == sum(len(result.trials) for result in results)
    return JoinedRunDetails(by_run) if complete else None
