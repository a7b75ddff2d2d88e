"""Several experiments, or one experiment in several stores, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from harness.errors import InputError
from harness.naming import ABSENT, PARAM_CONFIG
from harness.tracking.results import Results

FIELD = "experiment"
"""The field that tells joined experiments apart; `--by experiment` compares them."""


def join(results: Sequence[Results], names: Sequence[str]) -> Results:
    """One experiment's results out of several, with a field "experiment" more.

    names: of the experiments, distinct. Configs of two experiments stay two configs, and are
    paired by seed. Raises InputError where they are not selected on the same metric.
    """
    goals = {(found.metric, found.direction) for found in results}
    if len(goals) > 1:
        told = ", ".join(
            f"{name} on {found.metric}" for name, found in zip(names, results, strict=True)
        )
        raise InputError(f"experiments that are joined must be selected on one metric: {told}")
    fields = tuple(dict.fromkeys((FIELD, *(name for found in results for name in found.fields))))
    tables = []
    for name, found in zip(names, results, strict=True):
        table = found.trials.copy()
        table[FIELD] = name
        table[PARAM_CONFIG] = name + ":" + table[PARAM_CONFIG].astype(str)
        tables.append(table)
    trials = pd.concat(tables, ignore_index=True)
    for field in fields:
        if field != "seed":
            trials[field] = trials[field].fillna(ABSENT)
    return replace(
        results[0],
        experiment=" + ".join(dict.fromkeys(names)),
        trials=trials,
        fields=fields,
        expect=(),
        superseded=sum(found.superseded for found in results),
        # Curves are read from one store; of several there is no one archive.
        archive=results[0].archive if _one_store(results) else None,
    )


def _one_store(results: Sequence[Results]) -> bool:
    stores = {found.archive.store.uri if found.archive else "" for found in results}
    return len(stores) == 1
