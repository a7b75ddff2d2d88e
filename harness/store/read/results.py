"""Reads an experiment's runs as one table with a row for each trial."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from harness.core.errors import NoResults, Problem, StoreError, did_you_mean
from harness.core.metrics import (
    BEST,
    BEST_EPOCH,
    EPOCHS_TO_TARGET,
    EVALUATION,
    EXAMPLES_TO_TARGET,
    Goal,
    summarise_trial,
)
from harness.core.records import Measured, Outcome
from harness.core.text import format_value
from harness.experiment.experiment import Expectation
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    MAIN_FIELDS,
    config_identity,
    new_options,
)
from harness.store import names
from harness.store.coordination.processes import is_dead
from harness.store.long_values import restore
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL
from harness.store.read.external.roles import External
from harness.store.read.run_details import Details, RunDetails
from harness.store.read.runs import StoredRun, experiment_titles, search_runs, stored_run
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNNING = "running"
"""Outcome of a trial that has none yet."""
RUNS_AT_ONCE = 500
"""How many runs' histories are read at once, which bounds memory."""


@dataclass(frozen=True, slots=True)
class Results:
    """An experiment's trials.

    trials: one row for each trial, in the order in which they were started, with these columns:
        `RUN_COLUMNS`;
        one of text for each field ("optimizer.momentum"; `names.ABSENT` if the component lacks it;
        `seed` is an integer);
        one of float for each scalar ("best/val/accuracy"; NaN if the run has none).
        `outcome` is a `records.Outcome` or "running".
        `tuning` says whether a search trained it in order to choose; `study` and `role` say what it
        is to a search (see `names.TAG_ROLE`), and are empty if it is nothing.
        `data` and `weights` are the checksums of the data set and of pretrained weights, "" if the
        store does not have them. `code` is the identity of the user's code that components come
        from, as JSON (`names.TAG_CODE`); "" if none does.
        `started` is UTC. `trial` is the resolved trial as JSON.
        `artifacts` is empty if no figures and weights were stored.
    fields: the columns that say what a trial was: every field and option, and its ids.
    metric, direction, target: what trials are selected on, the same for all.
    expect: the published figures, as mappings of `experiment.Expectation`'s fields.
    superseded: how many runs were left out because a later run replaces them.
    parent_id: the newest sweep's or study's run; "" if there is none.
    details: reads histories and files of these runs; None if there is only the table.
    external: what is known of results that another program made; None for the harness's own.
    """

    experiment: str
    trials: pd.DataFrame
    fields: tuple[str, ...]
    metric: str
    direction: Literal["max", "min"]
    target: float | None
    expect: tuple[Mapping[str, Any], ...]
    superseded: int
    parent_id: str = ""
    details: Details | None = None
    external: External | None = None

    @property
    def scalars(self) -> tuple[str, ...]:
        """The columns that are scalars."""
        others = {*RUN_COLUMNS, *self.fields}
        return tuple(name for name in self.trials.columns if name not in others)


def experiment_names(store: Store) -> list[str]:
    """Returns the experiments that have a sweep or a study, the most recently run first."""
    titles = experiment_titles(store)
    is_parent = f"tags.`{names.TAG_KIND}` != '{names.TRIAL}'"
    parents = search_runs(store, list(titles), is_parent, newest_first=True)
    return list(dict.fromkeys(titles[run.info.experiment_id] for run in parents))


def read_results(store: Store, experiment: str, goal: Goal | None = None) -> Results:
    """Reads all trials of an experiment.

    goal: what trials are selected on, by default the goal of the newest sweep or study. The best
    epochs of trials that ran under another goal are taken from their histories.
    Raises NoResults if there is no such experiment or it has no trials, StoreError if the store
    cannot be read.
    """
    find = store.client.get_experiment_by_name
    stored = with_retries(f"read {store.label}", find, experiment)
    if stored is None or stored.lifecycle_stage != "active":
        known = experiment_names(store)
        hint = did_you_mean(experiment, known) if known else "the store has no experiments yet"
        raise NoResults(Problem(f"no experiment is named {experiment!r}", hint=hint))
    results = results_table(experiment, store.runs(stored.experiment_id))
    if results is None:
        raise NoResults(f"experiment {experiment!r} has no trials yet: run its sweep first")
    details = RunDetails(store, results.parent_id)
    goal = goal or Goal(results.metric, results.direction, results.target)
    return replace(
        results,
        trials=_with_goal(results.trials, goal, details),
        metric=goal.metric,
        direction=goal.direction,
        target=goal.target,
        details=details,
    )


def _with_goal(trials: pd.DataFrame, goal: Goal, details: RunDetails) -> pd.DataFrame:
    """Returns the table of trials with every best epoch and time to target by `goal`.

    A run's `best/…` and `…_to_target` metrics belong to the goal that was in force when it ran. If
    the experiment's `metric:` or `target:` has changed since, they are taken from its history.
    Rows of that goal stay as they are. `examples_to_target` is not in the histories: for the other
    rows it is scaled by what the run saw in an epoch, or missing.
    """
    same = _has_goal(trials, goal) & _best_was_evaluated(trials)
    if same.all():
        return trials
    best_columns = [name for name in trials.columns if name.startswith(BEST)]
    metrics = [name.removeprefix(BEST) for name in best_columns if name != BEST_EPOCH]
    if EVALUATION not in metrics:
        metrics.append(EVALUATION)
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


def _best_was_evaluated(trials: pd.DataFrame) -> pd.Series[bool]:
    """Returns which trials' stored best epoch is one with an evaluation: earlier versions chose
    among all epochs where the selection metric is of the training split."""
    if BEST_EPOCH not in trials:
        return pd.Series(True, trials.index)
    best = trials[BEST_EPOCH]
    given = trials.reindex(columns=["eval_every", "epochs"]).apply(pd.to_numeric, errors="coerce")
    every = given["eval_every"].fillna(1)
    evaluated: pd.Series[bool] = best.isna() | (best == given["epochs"]) | (best % every == 0)
    return evaluated


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


def results_table(experiment: str, runs: Iterable[StoredRun]) -> Results | None:
    """Builds the table of an experiment's runs, given oldest first; None if none is a trial's."""
    rows: dict[str, dict[str, Any]] = {}
    reader, superseded = _FieldReader(), 0
    parent: StoredRun | None = None
    field_names: dict[str, None] = {}
    for run in runs:
        kind = run.tags.get(names.TAG_KIND)
        if kind in (names.SWEEP, names.STUDY):
            parent = run
        elif kind == names.TRIAL and names.TAG_SUPERSEDED in run.tags:
            superseded += 1
        elif kind == names.TRIAL:
            values = reader.read(run)
            field_names.update(dict.fromkeys(values))
            row = values | run.metrics | _run_columns(run, experiment)
            trial_id = values[PARAM_TRIAL]
            rows[trial_id] = _row_that_counts(row, rows.pop(trial_id, None))
    if not rows:
        return None
    columns = tuple(dict.fromkeys([*field_names, *MAIN_FIELDS]))
    newest = list(rows.values())[-1]
    tags = parent.tags if parent else {}
    direction = tags.get(names.TAG_DIRECTION, newest["direction"])
    return Results(
        experiment=experiment,
        trials=_data_frame(list(rows.values()), columns),
        fields=columns,
        metric=tags.get(names.TAG_METRIC, newest["metric"]),
        direction="max" if direction == "max" else "min",
        target=_number(tags.get(names.TAG_TARGET)) if tags else newest["target"],
        expect=_expectations(tags.get(names.TAG_EXPECT, "[]")),
        superseded=superseded,
        parent_id=parent.run_id if parent else "",
    )


def find_trials(store: Store, reference: str) -> list[tuple[str, Run]]:
    """Returns the trials' runs whose run id or trial id starts with `reference`, each with its
    experiment's name, the oldest first."""
    titles, prefix = experiment_titles(store), reference.lower()
    if not prefix.isalnum():
        return []
    runs: dict[str, Run] = {}
    for field in ("attributes.run_id", f"params.{PARAM_TRIAL}"):
        matches = f"{field} LIKE '{prefix}%' AND tags.`{names.TAG_KIND}` = '{names.TRIAL}'"
        runs.update((run.info.run_id, run) for run in search_runs(store, list(titles), matches))
    return [(titles[run.info.experiment_id], run) for run in runs.values()]


def stored_trial(store: Store, run: Run) -> str | None:
    """Returns the resolved trial of a trial's run as JSON; None if the run does not say."""
    (whole,) = restore(store, [stored_run(run)])
    return whole.tags.get(names.TAG_TRIAL)


def outcome(status: str, tags: Mapping[str, str]) -> str:
    """Returns how a trial's run ended, by its status in MLflow and its tags, or `RUNNING`."""
    stored = tags.get(names.TAG_OUTCOME)
    if stored in set(Outcome):
        return str(stored)
    if status in ("RUNNING", "SCHEDULED") and not is_dead(tags.get(names.TAG_PROCESS, "")):
        return RUNNING
    # Without its tag nothing says that a run was completed.
    return str(Outcome.FAILED if status == "FAILED" else Outcome.INTERRUPTED)


def flatten(resolved: Mapping[str, Any]) -> dict[str, str]:
    """Returns what `Trial.flat` does, from the resolved trial alone, so that trials can be read
    whose components are not installed. `augment` is left to the param of that name."""
    flat: dict[str, str] = {}
    for field, value in resolved.items():
        if isinstance(value, Mapping):
            flat[field] = str(value.get("name", ABSENT))
            options = ((key, option) for key, option in value.items() if key != "name")
            flat.update((f"{field}.{key}", format_value(option)) for key, option in options)
        elif field not in COMPONENT_LIST_FIELDS:
            flat[field] = format_value(value)
    return flat


class _FieldReader:
    """Reads the fields of an experiment's trials, those of each config once."""

    def __init__(self) -> None:
        self._fields_by_config: dict[str, dict[str, str]] = {}
        self._params_by_identity: dict[str, Mapping[str, str]] = {}
        self._new_options: dict[tuple[str, str], dict[str, Any]] = {}

    def read(self, run: StoredRun) -> dict[str, str]:
        """Returns a trial's fields.

        Its params have only the options that its own sweep moved from their defaults; the resolved
        trial has all, so that sweeps can be read together. A run that has just started has no
        params yet: it takes those of a trial that is equal but for the seed.
        """
        params = run.params or self._params_of_equal_trial(run)
        config = params.get(PARAM_CONFIG, run.run_id)
        if config not in self._fields_by_config:
            resolved = _json_mapping(run.tags.get(names.TAG_TRIAL))
            self._fields_by_config[config] = flatten(self._of_today(resolved))
            self._params_by_identity.setdefault(_identity(resolved), params)
        ids = {PARAM_TRIAL: run.run_id, PARAM_CONFIG: config}
        return ids | self._fields_by_config[config] | params

    def _of_today(self, resolved: Mapping[str, Any]) -> dict[str, Any]:
        """Adds the options that the components got since the trial was stored, at their defaults:
        it then reads like a trial of today."""
        values = dict(resolved)
        for field, kind in COMPONENT_FIELDS.items():
            stored = values.get(field)
            if isinstance(stored, Mapping):
                key = kind, str(stored.get("name"))
                if key not in self._new_options:
                    self._new_options[key] = new_options(*key)
                values[field] = {**self._new_options[key], **stored}
        return values

    def _params_of_equal_trial(self, run: StoredRun) -> dict[str, str]:
        resolved = _json_mapping(run.tags.get(names.TAG_TRIAL))
        known = self._params_by_identity.get(_identity(resolved))
        if not known:
            return {}
        seed = resolved.get("seed")
        own = {PARAM_TRIAL: run.run_id} | ({} if seed is None else {"seed": format_value(seed)})
        return dict(known) | own


def _identity(resolved: Mapping[str, Any]) -> str:
    """Returns what trials share that are equal but for their seed, as a key."""
    return json.dumps(config_identity(resolved))


def _row_that_counts(newer: dict[str, Any], older: dict[str, Any] | None) -> dict[str, Any]:
    """Returns the row of a trial's newest run, as for a sweep; but a run that is done counts more
    than a newer one that diverged."""
    if older is None or newer["outcome"] != Outcome.DIVERGED:
        return newer
    return older if older["outcome"] == Outcome.DONE else newer


def _run_columns(run: StoredRun, experiment: str) -> dict[str, Any]:
    tags = run.tags
    return {
        "run_id": run.run_id,
        "run_name": run.name or run.run_id,
        "parent_id": tags.get(names.TAG_PARENT),
        "experiment": experiment,
        "started": run.started,
        "data": run.data,
        "weights": tags.get(names.TAG_WEIGHTS, ""),
        "code": tags.get(names.TAG_CODE, ""),
        "outcome": outcome(run.status, tags),
        "tuning": names.TAG_POINT_NUMBER in tags,
        "study": tags.get(names.TAG_STUDY, ""),
        "role": tags.get(names.TAG_ROLE, ""),
        "reason": tags.get(names.TAG_REASON, ""),
        "metric": tags.get(names.TAG_METRIC, ""),
        "direction": tags.get(names.TAG_DIRECTION, ""),
        "target": _number(tags.get(names.TAG_TARGET)),
        "device_used": tags.get(names.TAG_DEVICE),
        "device_name": tags.get(names.TAG_DEVICE_NAME),
        "exclusive": tags.get(names.TAG_EXCLUSIVE) == "true",
        "diverged_at": _number(tags.get(names.TAG_DIVERGED_AT)),
        "trial": tags.get(names.TAG_TRIAL),
        "artifacts": tags.get(names.TAG_ARTIFACTS, ""),
        "version": tags.get(names.TAG_VERSION, ""),
        "host": tags.get(names.TAG_HOST, ""),
        "git_commit": tags.get(names.TAG_GIT_COMMIT, ""),
        "git_dirty": tags.get(names.TAG_GIT_DIRTY, "") == "true",
    }


def _data_frame(rows: list[dict[str, Any]], columns: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame.from_records(rows)
    table["started"] = pd.to_datetime(table["started"], unit="ms", utc=True)
    for name in columns:
        table[name] = table[name].fillna(ABSENT) if name in table else ABSENT
    # Callers calculate with the rate, which in a run of another program may be no number.
    table["lr"] = [lr if _number(lr) is not None else "nan" for lr in table["lr"]]
    if "seed" in columns:
        table["seed"] = pd.array([_integer(seed) for seed in table["seed"]], dtype="Int64")
    return table


def _expectations(stored: str) -> tuple[Mapping[str, Any], ...]:
    try:
        figures = json.loads(stored)
    except ValueError:
        raise StoreError(f"the tag {names.TAG_EXPECT} is not JSON: {stored[:60]!r}") from None
    known = {field.name for field in fields(Expectation)}
    defaults: dict[str, Any] = {"source": "", "where": {}}
    valid = isinstance(figures, list) and all(
        isinstance(figure, dict) and known - set(defaults) <= set(figure) <= known
        for figure in figures
    )
    if not valid:
        message = f"the tag {names.TAG_EXPECT} holds no published figures: {stored[:60]!r}"
        raise StoreError(message)
    return tuple(defaults | figure for figure in figures)


def _json_mapping(stored: str | None) -> Mapping[str, Any]:
    """Returns a tag's JSON; empty if it is none, as in a run that another program wrote."""
    try:
        value = json.loads(stored or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _number(stored: str | None) -> float | None:
    """Returns a tag's finite number, or None."""
    try:
        value = float(stored or "nan")
    except ValueError:
        return None
    return value if isfinite(value) else None


def _integer(text: str) -> int | None:
    """Returns an integer that a column can hold, or None."""
    try:
        value = int(text)
    except ValueError:
        return None
    return value if abs(value) < 1 << 63 else None


RUN_COLUMNS = tuple(_run_columns(StoredRun("", "", "FINISHED", 0), ""))
"""Columns that every table has, besides those of fields and scalars."""


def no_run(experiment: str) -> dict[str, Any]:
    """Returns `RUN_COLUMNS` of a run of which another program kept nothing."""
    unknown = dict.fromkeys(("exclusive", "git_dirty", "trial"))
    known = {"tuning": False, "started": pd.NaT, "outcome": str(Outcome.DONE)}
    return _run_columns(StoredRun("", "", "FINISHED", 0), experiment) | unknown | known
