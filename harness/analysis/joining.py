"""Several experiments, or one experiment in several stores, as one table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from harness.core.errors import InputError
from harness.store.names import ABSENT, PARAM_CONFIG
from harness.store.read.results import Results
from harness.store.read.run_details import JoinedRunDetails, RunDetails

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
    targets = {found.target for found in results}
    return replace(
        results[0],
        experiment=" + ".join(dict.fromkeys(names)),
        trials=trials,
        fields=fields,
        expect=(),
        target=targets.pop() if len(targets) == 1 else None,
        superseded=sum(found.superseded for found in results),
        parent_id="",
        details=_archives(results),
    )


def _archives(results: Sequence[Results]) -> JoinedRunDetails | None:
    """Each run's curves and files, where its own experiment's are."""
    of = {
        str(run_id): found.details
        for found in results
        if isinstance(found.details, RunDetails)
        for run_id in found.trials["run_id"]
    }
    return JoinedRunDetails(of) if len(of) == sum(len(found.trials) for found in results) else None
