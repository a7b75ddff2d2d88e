"""Reads the results of an MLflow experiment that another program wrote."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan, nan
from pathlib import Path
from typing import Any

import pandas as pd

from harness.core.errors import InputError, NoResults, Problem, StoreError, did_you_mean
from harness.core.metrics import BEST, FINAL, test_metric
from harness.core.records import Outcome
from harness.store.names import ABSENT, TAG_GIT_COMMIT
from harness.store.read.external.assembly import assemble
from harness.store.read.external.checks import (
    refuse_repeated_runs,
    refuse_respelled,
    require_columns,
)
from harness.store.read.external.columns import setting_columns
from harness.store.read.external.mlflow_client import ExternalClient
from harness.store.read.external.mlflow_tables import ExternalTables
from harness.store.read.external.notes import left_out, notes_about
from harness.store.read.external.roles import ColumnRoles, External
from harness.store.read.external.runs import (
    LARGEST,
    ExternalRun,
    counted_runs,
    described,
)
from harness.store.read.results import RUNNING, Results
from harness.store.read.run_details import history_table
from harness.store.store import open_existing_store
from harness.store.uris import DEFAULT_FILE, database_of, default_uri, redact

ExternalStore = ExternalTables | ExternalClient
STATUSES = {
    "FAILED": str(Outcome.FAILED),
    "KILLED": str(Outcome.INTERRUPTED),
    "RUNNING": RUNNING,
    "SCHEDULED": RUNNING,
}
"""Outcomes of runs that did not finish, by MLflow's status."""


@dataclass(frozen=True, slots=True)
class ExternalDetails:
    """Reads the curves of another program's runs. Their files mean nothing to a report."""

    store: ExternalStore

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """See `RunDetails.histories`."""
        table = history_table(self.store.histories(list(run_ids), list(metrics)))
        return table[table["value"].abs() < LARGEST]

    def text(self, run_id: str, name: str) -> None:
        """Returns nothing."""

    def provenance(self) -> dict[str, Any]:
        """Returns nothing."""
        return {}


def read_mlflow(uri: str | None, experiment: str, roles: ColumnRoles) -> Results:
    """Returns the results of an MLflow experiment. Changes nothing in its store.

    A name in `roles` is that of a param or else of a tag, of the run or of one that it lies in.
    Runs that failed, were killed or still run have no score. A run that was repeated counts once:
    the newest that is done, or else the newest.

    uri: of the store, by default that of `default_uri`.

    Raises InputError for an experiment, a param or a metric that does not exist, and for runs that
    cannot be told apart; StoreError if the store cannot be read.
    """
    store = open_external(uri)
    try:
        name, experiment_id = _find(store, experiment, uri)
        found = _read(store, experiment_id, name, roles)
    except sqlite3.Error as error:
        store_name = redact(uri or default_uri())
        raise StoreError(f"cannot read an MLflow store in {store_name}: {error}") from error
    external = External(
        by=roles.by,
        epoch="best" if roles.best else "final",
        seeded=bool(roles.seed),
        notes=(*left_out(found.left_out), *notes_about(found.rows, found.settings, roles, [])),
        facts=(("store", redact(uri or default_uri())), ("experiment's id", experiment_id)),
    )
    table = _run_table(found.runs, roles)
    results = assemble(name, found.settings, roles, table, found.scalars, external)
    return replace(results, superseded=found.replaced, details=ExternalDetails(store))


@dataclass(frozen=True, slots=True)
class _Found:
    """The runs that count, and what is known of them, a row each.

    rows: their params and tags. settings: the texts of those with a role.
    left_out: how many runs are left out, by what they are. replaced: by a later run.
    """

    runs: Sequence[ExternalRun]
    rows: pd.DataFrame
    settings: pd.DataFrame
    scalars: pd.DataFrame
    left_out: dict[str, int]
    replaced: int


def _read(store: ExternalStore, experiment_id: str, name: str, roles: ColumnRoles) -> _Found:
    second = test_metric(roles.metric) or ""
    runs = store.runs(experiment_id, list(filter(None, (roles.metric, second))))
    if not runs:
        raise NoResults(f"experiment {name!r} has no runs")
    if not any(roles.metric in run.metrics for run in runs):
        hint = did_you_mean(roles.metric, store.metric_names(experiment_id))
        raise InputError(Problem(f"--metric: no run has a metric {roles.metric!r}", hint=hint))
    counted, others = counted_runs(runs, roles.metric)
    by_id = {run.run_id: run for run in runs}
    texts = {run.run_id: described(run, by_id) for run in counted}
    known = {text for of_run in texts.values() for text in of_run}
    flags = {name: flag for name, flag in roles.flags.items() if name != roles.metric}
    require_columns(sorted(known), flags, "param or tag")
    complete, incomplete = _complete(counted, texts, roles)
    rows = _rows(complete, texts, roles)
    refuse_respelled(rows, roles)
    settings = setting_columns(rows, roles.descriptive)
    places = _latest(complete, rows, settings, roles)
    kept = [complete[place] for place in places]
    return _Found(
        runs=kept,
        rows=rows.iloc[places].reset_index(drop=True),
        settings=settings.iloc[places].reset_index(drop=True),
        scalars=_scalars(store, experiment_id, kept, roles, second),
        left_out=others | incomplete,
        replaced=len(complete) - len(kept),
    )


def open_external(uri: str | None) -> ExternalStore:
    """Opens a store: a SQLite file for reading alone, whichever MLflow wrote it, and any other by
    MLflow's client."""
    database = database_of(uri or default_uri())
    if database is None:
        return ExternalClient(open_existing_store(uri))
    if not database.is_file():
        hint = _hint_at_store(uri) or "name the store of the experiment: --store sqlite:///PATH"
        raise NoResults(Problem(f"there is no store {database}", hint=hint))
    return ExternalTables(database)


def _hint_at_store(uri: str | None) -> str:
    """Returns how to name the store that MLflow makes in the folder where a program runs."""
    if uri is not None or not Path(DEFAULT_FILE).is_file():
        return ""
    return f"for the store in this folder, add --store sqlite:///{DEFAULT_FILE}"


def _find(store: ExternalStore, experiment: str, uri: str | None) -> tuple[str, str]:
    """Returns the name and the id of an experiment, given by either of them."""
    experiments = store.experiments()
    if experiment in experiments:
        return experiment, experiments[experiment]
    for name, experiment_id in experiments.items():
        if experiment_id == experiment:
            return name, experiment_id
    hint = "\n    ".join(filter(None, (did_you_mean(experiment, experiments), _hint_at_store(uri))))
    raise NoResults(Problem(f"--mlflow: no experiment is named {experiment!r}", hint=hint))


def _complete(
    runs: Sequence[ExternalRun], texts: dict[str, dict[str, str]], roles: ColumnRoles
) -> tuple[list[ExternalRun], dict[str, int]]:
    """Returns the runs that have a contender, a task and a seed, and how many have not, by what
    they lack. Raises InputError if none has them."""
    complete, lacking = [], dict.fromkeys((f"without {name}" for name in roles.needed), 0)
    for run in runs:
        lacks = next((n for n in roles.needed if not texts[run.run_id].get(n, "").strip()), None)
        if lacks is None:
            complete.append(run)
        else:
            lacking[f"without {lacks}"] += 1
    if not complete:
        raise InputError(f"no run has {' and '.join(roles.needed)} at once")
    return complete, lacking


def _rows(
    runs: Sequence[ExternalRun], texts: dict[str, dict[str, str]], roles: ColumnRoles
) -> pd.DataFrame:
    """Returns the params and tags of runs; of MLflow's own tags, the commit and those with a
    role."""
    names = dict.fromkeys(name for run in runs for name in texts[run.run_id])
    wanted = (TAG_GIT_COMMIT, *roles.descriptive)
    shown = [name for name in names if not name.startswith("mlflow.") or name in wanted]
    shown += [name for name in roles.descriptive if name not in names]
    columns = {name: [texts[run.run_id].get(name) for run in runs] for name in shown}
    return pd.DataFrame(columns, dtype=object)


def _latest(
    runs: Sequence[ExternalRun], rows: pd.DataFrame, settings: pd.DataFrame, roles: ColumnRoles
) -> list[int]:
    """Returns the places of the runs that count: of those with the same settings and seed, the
    newest that is done, or else the newest.

    Raises InputError if several are done, and differ in another param or tag.
    """
    if not roles.seed or not settings.duplicated().any():
        return list(range(len(runs)))
    rows = rows.drop(columns=[TAG_GIT_COMMIT], errors="ignore")
    trial = settings.groupby(list(settings.columns), sort=False).ngroup()
    done = pd.Series([run.status == "FINISHED" for run in runs])
    distinct = rows[done].fillna(ABSENT).drop_duplicates()
    unclear = trial[distinct.index][trial[distinct.index].duplicated()]
    if len(unclear):
        of_trial = (done & trial.isin(unclear)).to_numpy().nonzero()[0].tolist()
        places = [f"run {runs[row].name or runs[row].run_id}" for row in of_trial]
        rows, settings = (of.iloc[of_trial].reset_index(drop=True) for of in (rows, settings))
        refuse_repeated_runs(rows, settings, roles, places)
    # Runs are in the order of their start.
    order = sorted(range(len(runs)), key=lambda row: (done[row], row))
    newest = dict(zip(trial[order], order, strict=True))
    return sorted(newest.values())


def _run_table(runs: Sequence[ExternalRun], roles: ColumnRoles) -> pd.DataFrame:
    outcomes = [_outcome(run, roles.metric) for run in runs]
    return pd.DataFrame(
        {
            "run_id": [run.run_id for run in runs],
            "run_name": [run.name or run.run_id for run in runs],
            "started": pd.to_datetime([run.started for run in runs], unit="ms", utc=True),
            "git_commit": [run.tags.get(TAG_GIT_COMMIT, "") for run in runs],
            "outcome": [outcome for outcome, _ in outcomes],
            "reason": [reason for _, reason in outcomes],
        }
    )


def _outcome(run: ExternalRun, metric: str) -> tuple[str, str]:
    """Returns how a run ended, and why it has no score."""
    if run.status in STATUSES:
        return STATUSES[run.status], f"MLflow has it as {run.status}"
    if metric not in run.metrics:
        return str(Outcome.FAILED), f"it has no {metric}"
    if isnan(run.metrics[metric]):
        return str(Outcome.DIVERGED), f"its last {metric} is not finite"
    return str(Outcome.DONE), ""


def _scalars(
    store: ExternalStore,
    experiment_id: str,
    runs: Sequence[ExternalRun],
    roles: ColumnRoles,
    second: str,
) -> pd.DataFrame:
    """Returns the values of the metric, and of the test split's if there are any."""
    columns = {
        FINAL + name: [run.metrics.get(name, nan) for run in runs]
        for name in filter(None, (roles.metric, second))
    }
    if roles.best:
        best = store.best_steps(experiment_id, roles.metric, roles.direction == "max", second)
        found = [best.get(run.run_id) for run in runs]
        columns[BEST + roles.metric] = [nan if of is None else of.value for of in found]
        columns[BEST + second] = [nan if of is None else of.beside for of in found]
    table = pd.DataFrame(columns, dtype=float)
    return table.dropna(axis="columns", how="all")
