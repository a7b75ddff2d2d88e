"""Makes `Results` of a DataFrame with a row for each run, whoever made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.core.metrics import GIVEN, test_metric
from harness.core.records import Outcome
from harness.core.text import join_with_and
from harness.store.read.external.assembly import assemble
from harness.store.read.external.checks import (
    refuse_repeated_runs,
    refuse_respelled,
    refuse_text,
    require_columns,
    require_settings,
)
from harness.store.read.external.columns import Scores, read_scores, setting_columns
from harness.store.read.external.notes import notes_about
from harness.store.read.external.roles import ColumnRoles, External, column_roles
from harness.store.read.results import Results


def results_of_frame(
    frame: pd.DataFrame,
    *,
    by: str | Sequence[str],
    metric: str,
    task: str | Sequence[str] | None = None,
    seed: str | None = None,
    config: str | Sequence[str] | None = None,
    name: str = "results",
) -> Results:
    """Returns the results of runs that another program made, ready to be compared.

    >>> frame = pd.read_csv("results.csv")
    >>> results_of_frame(frame, by="optimizer", task="dataset", seed="seed", metric="acc:max")

    frame: a row for each run. It is not changed.
    by: the column, or columns, that compete.
    metric: the column of the score, with its better direction: "acc:max" or "loss:min". If it is
        called "val/acc" or "val_acc" and there is a "test/acc" or "test_acc", the first chooses
        each contender's best config, and the second is compared.
    task: the columns that say what was learned. Scores of different tasks are never ranked against
        each other. By default all runs learned the same.
    seed: the column that says which runs had the same seed, and are paired. Without it, nothing is
        claimed.
    config: further columns that tell runs of a contender apart, such as "lr". Without them, the
        runs of a contender on a task differ in the seed alone.
    name: the report's title.

    A score that is infinite, or the text "nan", counts as a trial that diverged. A score that is
    missing has no value, and counts as failed.

    Raises InputError for a column that does not exist or has two roles, for text among the scores,
    for a row without a contender, task or seed, and for two rows of one config, task and seed.
    """
    roles = column_roles(by=by, metric=metric, task=task, seed=seed, config=config)
    places = [f"row {label}" for label in frame.index]
    rows = frame.reset_index(drop=True).rename(columns=str)
    return results_of_rows(name, rows, roles, places)


def results_of_rows(
    name: str,
    rows: pd.DataFrame,
    roles: ColumnRoles,
    places: Sequence[str],
    facts: Sequence[tuple[str, str]] = (),
) -> Results:
    """Returns the results of a table whose scores are a column. See `results_of_frame`.

    places: where each row stands, for messages and as the name of its run.
    """
    require_columns([str(column) for column in rows.columns], roles.flags)
    metrics = [roles.metric]
    second = test_metric(roles.metric)
    if second in rows.columns and second not in roles.descriptive:
        metrics.append(str(second))
    scores = {metric: read_scores(rows[metric]) for metric in metrics}
    refuse_text(scores, places)
    settings = setting_columns(rows, roles.descriptive)
    require_settings(settings, roles, places)
    refuse_respelled(rows, roles)
    refuse_repeated_runs(rows, settings, roles, places)
    scalars = pd.DataFrame({GIVEN + metric: of.values for metric, of in scores.items()})
    external = External(
        by=roles.by,
        epoch="given",
        seeded=bool(roles.seed),
        notes=tuple(notes_about(rows, settings, roles, metrics)),
        facts=tuple(facts),
    )
    return assemble(name, settings, roles, _run_table(name, scores, places), scalars, external)


def _run_table(name: str, scores: Mapping[str, Scores], places: Sequence[str]) -> pd.DataFrame:
    """Returns how each run ended, and why it has no score. scores: those that choose come first."""
    metrics = list(scores)
    diverged = np.logical_or.reduce([of.diverged for of in scores.values()])
    outcomes = np.where(scores[metrics[0]].missing, Outcome.FAILED, Outcome.DONE)
    outcomes = np.where(diverged, Outcome.DIVERGED, outcomes)
    reasons = {
        Outcome.DIVERGED: f"its {join_with_and(metrics)} is not finite",
        Outcome.FAILED: f"it has no {metrics[0]}",
        Outcome.DONE: "",
    }
    return pd.DataFrame(
        {
            "run_id": [f"{name}: {place}" for place in places],
            "run_name": list(places),
            "outcome": [str(outcome) for outcome in outcomes],
            "reason": [reasons[outcome] for outcome in outcomes],
        }
    )
