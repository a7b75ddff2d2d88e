"""MLflow's runs as one tidy table, one row a trial: where the read side begins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from harness.core.errors import InputError, Problem, StoreError, did_you_mean
from harness.core.metrics import Goal
from harness.core.records import Outcome
from harness.core.text import format_value
from harness.experiment.experiment import Expectation
from harness.experiment.trial import COMPONENT_LIST_FIELDS, MAIN_FIELDS, config_identity
from harness.store import names
from harness.store.coordination.processes import is_dead
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL
from harness.store.read.best_epochs import under_goal
from harness.store.read.run_details import JoinedRunDetails, RunDetails
from harness.store.read.runs import StoredRun, read_runs, search_runs
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Run

RUNNING = "running"
"""Outcome of a trial that has none yet."""
PARENT_KINDS = (names.SWEEP, names.STUDY)
FACTS = (
    "run_id",
    "run_name",
    "parent_id",
    "experiment",
    "started",
    "outcome",
    "tuning",
    "study",
    "role",
    "reason",
    "metric",
    "direction",
    "target",
    "device_used",
    "device_name",
    "exclusive",
    "diverged_at",
    "trial",
    "artifacts",
    "version",
    "host",
    "git_commit",
    "git_dirty",
)
"""Columns that every table has, besides those of fields and scalars."""


@dataclass(frozen=True, slots=True)
class Results:
    """An experiment's trials.

    trials: one row a trial, in the order they were started: the columns of `FACTS`; a column of
        text for each field ("optimizer.momentum", `names.ABSENT` where the component lacks it;
        `seed` as a whole number); a column of float for each scalar ("best/val/accuracy", NaN
        where the run has none). `outcome` is a `records.Outcome` or "running"; `tuning` says
        whether a search trained it to choose by, `study` and `role` what it is to a search (see
        `names.TAG_ROLE`), empty where it is nothing; `started` is UTC; `trial` is the resolved
        trial as JSON; `artifacts` is empty where no figures and weights were stored.
    fields: the columns that say what a trial was: every field and option, and its ids.
    metric, direction, target: what trials are selected on, the same for all.
    expect: its published figures, as mappings of `experiment.Expectation`'s fields.
    superseded: runs left out because a later run replaces them.
    parent_id: the newest sweep's or study's run; empty where there is none.
    details: where curves and files of these runs are read; None where the table is all there is.
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
    details: RunDetails | JoinedRunDetails | None = None

    @property
    def scalars(self) -> tuple[str, ...]:
        """The columns that are scalars."""
        known = {*FACTS, *self.fields}
        return tuple(name for name in self.trials.columns if name not in known)


def experiment_names(store: Store) -> list[str]:
    """Names of the experiments that hold a sweep or a study, the most recently run first."""
    titles = _experiments(store)
    parents = search_runs(
        store, list(titles), f"tags.`{names.TAG_KIND}` != '{names.TRIAL}'", newest_first=True
    )
    return list(dict.fromkeys(titles[run.info.experiment_id] for run in parents))


def read_results(store: Store, experiment: str, goal: Goal | None = None) -> Results:
    """All trials of an experiment.

    goal: what they are selected on, by default as the newest sweep or study has it. Best epochs of
    trials that ran under another are taken anew from their curves.
    Raises InputError, with the closest name, where there is no such experiment or it has no
    trials; StoreError where the store cannot be read.
    """
    found = with_retries(
        f"read {store.label}", lambda: store.client.get_experiment_by_name(experiment)
    )
    if found is None or found.lifecycle_stage != "active":
        known = experiment_names(store)
        hint = did_you_mean(experiment, known) if known else "the store has no experiments yet"
        raise InputError(Problem(f"no experiment is named {experiment!r}", hint=hint))
    results = results_table(experiment, read_runs(store, found.experiment_id))
    if results is None:
        raise InputError(f"experiment {experiment!r} has no trials yet: run its sweep first")
    archive = RunDetails(store, results.parent_id)
    goal = goal or Goal(results.metric, results.direction, results.target)
    return replace(
        results,
        trials=under_goal(results.trials, goal, archive),
        metric=goal.metric,
        direction=goal.direction,
        target=goal.target,
        details=archive,
    )


def results_table(experiment: str, runs: Iterable[StoredRun]) -> Results | None:
    """The table of an experiment's runs, which come oldest first; None without a trial."""
    gathered = _Gathered(experiment)
    for run in runs:
        gathered.take(run)
    return gathered.results() if gathered.rows else None


def find_trials(store: Store, reference: str) -> list[tuple[str, Run]]:
    """Runs of trials, each with its experiment's name, whose run id or trial id begins with
    `reference`; the oldest first."""
    titles, prefix = _experiments(store), reference.lower()
    if not prefix.isalnum():
        return []
    found: dict[str, Run] = {}
    for field in ("attributes.run_id", f"params.{PARAM_TRIAL}"):
        matches = f"{field} LIKE '{prefix}%' AND tags.`{names.TAG_KIND}` = '{names.TRIAL}'"
        found.update((run.info.run_id, run) for run in search_runs(store, list(titles), matches))
    return [(titles[run.info.experiment_id], run) for run in found.values()]


def outcome(status: str, tags: Mapping[str, str]) -> str:
    """How a trial's run ended, by its status in MLflow and its tags; `RUNNING` where it has not."""
    tagged = tags.get(names.TAG_OUTCOME)
    if tagged in set(Outcome):
        return str(tagged)
    if status in ("RUNNING", "SCHEDULED") and not is_dead(tags.get(names.TAG_PROCESS, "")):
        return RUNNING
    # Without its tag nothing says that a run was completed.
    return str(Outcome.FAILED if status == "FAILED" else Outcome.INTERRUPTED)


class _Gathered:
    """Rows so far, the newest parent, and what was left out."""

    def __init__(self, experiment: str) -> None:
        self.experiment = experiment
        self.rows: dict[str, dict[str, Any]] = {}
        self.fields: dict[str, None] = {}
        self.parent: Mapping[str, str] = {}
        self.parent_id = ""
        self.superseded = 0
        self._configs: dict[str, dict[str, str]] = {}
        self._of_equals: dict[str, Mapping[str, str]] = {}

    def take(self, run: StoredRun) -> None:
        """Runs come oldest first."""
        kind = run.tags.get(names.TAG_KIND)
        if kind in PARENT_KINDS:
            self.parent, self.parent_id = run.tags, run.run_id
        elif kind == names.TRIAL and names.TAG_SUPERSEDED in run.tags:
            self.superseded += 1
        elif kind == names.TRIAL:
            fields = self._fields(run)
            self.fields.update(dict.fromkeys(fields))
            row = fields | run.metrics | _facts(run, self.experiment)
            self.rows[fields[PARAM_TRIAL]] = _counting(
                row, self.rows.pop(fields[PARAM_TRIAL], None)
            )

    def _fields(self, run: StoredRun) -> dict[str, str]:
        """A trial's fields. Its params have only those options that its own sweep moved from
        their defaults; the resolved trial has all, so that sweeps can be read together.

        A run that has just begun has no params yet: it is of the config of an equal trial."""
        params = run.params or self._params_of_equals(run)
        config = params.get(PARAM_CONFIG, run.run_id)
        if config not in self._configs:
            self._configs[config] = flatten(_mapping(run.tags.get(names.TAG_TRIAL)))
            self._of_equals.setdefault(_but_for_seed(run), params)
        ids = {PARAM_TRIAL: run.run_id, PARAM_CONFIG: config}
        return ids | self._configs[config] | params

    def _params_of_equals(self, run: StoredRun) -> dict[str, str]:
        known = self._of_equals.get(_but_for_seed(run), {})
        seed = _mapping(run.tags.get(names.TAG_TRIAL)).get("seed")
        own = {PARAM_TRIAL: run.run_id} | ({} if seed is None else {"seed": format_value(seed)})
        return dict(known) | own if known else {}

    def results(self) -> Results:
        rows = list(self.rows.values())
        fields = tuple(dict.fromkeys([*self.fields, *MAIN_FIELDS]))
        newest, parent = rows[-1], self.parent
        target = _float(parent.get(names.TAG_TARGET)) if parent else newest["target"]
        direction = parent.get(names.TAG_DIRECTION, newest["direction"])
        return Results(
            experiment=self.experiment,
            trials=_table(rows, fields),
            fields=fields,
            metric=parent.get(names.TAG_METRIC, newest["metric"]),
            direction="max" if direction == "max" else "min",
            target=target,
            expect=_expectations(parent.get(names.TAG_EXPECT, "[]")),
            superseded=self.superseded,
            parent_id=self.parent_id,
        )


def _but_for_seed(run: StoredRun) -> str:
    """A run's resolved trial without its seed, as a key."""
    resolved = _mapping(run.tags.get(names.TAG_TRIAL))
    return json.dumps(config_identity(resolved))


def flatten(resolved: Mapping[str, Any]) -> dict[str, str]:
    """What `Trial.flat` gives, from the resolved trial alone, so that trials can be read whose
    components are not installed. `augment` is left to the param of that name."""
    flat: dict[str, str] = {}
    for field, value in resolved.items():
        if isinstance(value, Mapping):
            flat[field] = str(value.get("name", ABSENT))
            options = ((key, option) for key, option in value.items() if key != "name")
            flat.update((f"{field}.{key}", format_value(option)) for key, option in options)
        elif field not in COMPONENT_LIST_FIELDS:
            flat[field] = format_value(value)
    return flat


def _counting(newer: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    """The newest run of a trial counts, as it does for the sweep; but of finished ones the newest
    that is done."""
    if before is None or newer["outcome"] != Outcome.DIVERGED:
        return newer
    return before if before["outcome"] == Outcome.DONE else newer


def _facts(run: StoredRun, experiment: str) -> dict[str, Any]:
    tags = run.tags
    return {
        "run_id": run.run_id,
        "run_name": run.name or run.run_id,
        "parent_id": tags.get("mlflow.parentRunId"),
        "experiment": experiment,
        "started": run.started,
        "outcome": outcome(run.status, tags),
        "tuning": names.TAG_POINT_NUMBER in tags,
        "study": tags.get(names.TAG_STUDY, ""),
        "role": tags.get(names.TAG_ROLE, ""),
        "reason": tags.get(names.TAG_REASON, ""),
        "metric": tags.get(names.TAG_METRIC, ""),
        "direction": tags.get(names.TAG_DIRECTION, ""),
        "target": _float(tags.get(names.TAG_TARGET)),
        "device_used": tags.get(names.TAG_DEVICE),
        "device_name": tags.get(names.TAG_DEVICE_NAME),
        "exclusive": tags.get(names.TAG_EXCLUSIVE) == "true",
        "diverged_at": _float(tags.get(names.TAG_DIVERGED_AT)),
        "trial": tags.get(names.TAG_TRIAL),
        "artifacts": tags.get(names.TAG_ARTIFACTS, ""),
        "version": tags.get(names.TAG_VERSION, ""),
        "host": tags.get(names.TAG_HOST, ""),
        "git_commit": tags.get(names.TAG_GIT_COMMIT, ""),
        "git_dirty": tags.get(names.TAG_GIT_DIRTY, "") == "true",
    }


def _table(rows: list[dict[str, Any]], fields: tuple[str, ...]) -> pd.DataFrame:
    table = pd.DataFrame.from_records(rows)
    table["started"] = pd.to_datetime(table["started"], unit="ms", utc=True)
    for name in fields:
        table[name] = table[name].fillna(ABSENT) if name in table else ABSENT
    # What something else wrote may be no rate; readers calculate with it.
    table["lr"] = [lr if _float(lr) is not None else "nan" for lr in table["lr"]]
    if "seed" in fields:
        table["seed"] = pd.array([_whole(seed) for seed in table["seed"]], dtype="Int64")
    return table


def _expectations(stored: str) -> tuple[Mapping[str, Any], ...]:
    try:
        found = json.loads(stored)
    except ValueError:
        raise StoreError(f"the tag {names.TAG_EXPECT} is not JSON: {stored[:60]!r}") from None
    known = {field.name for field in fields(Expectation)}
    optional: dict[str, Any] = {"source": "", "where": {}}
    whole = isinstance(found, list) and all(
        isinstance(one, dict) and known - set(optional) <= set(one) <= known for one in found
    )
    if not whole:
        told = f"the tag {names.TAG_EXPECT} holds no published figures: {stored[:60]!r}"
        raise StoreError(told)
    return tuple(optional | one for one in found)


def _mapping(stored: str | None) -> Mapping[str, Any]:
    """A tag's JSON; empty where it holds none, as in a run that something else wrote."""
    try:
        found = json.loads(stored or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _float(value: str | None) -> float | None:
    """A tag's number; None where it holds none."""
    try:
        found = float(value or "nan")
    except ValueError:
        return None
    return found if isfinite(found) else None


def _whole(text: str) -> int | None:
    """None where it is no whole number, or one that no column holds."""
    try:
        found = int(text)
    except ValueError:
        return None
    return found if abs(found) < 1 << 63 else None


def _experiments(store: Store) -> dict[str, str]:
    """Every experiment's name, by its id."""
    names: dict[str, str] = {}
    token: str | None = None
    while True:
        ask = partial(store.client.search_experiments, page_token=token)
        page = with_retries(f"read {store.label}", ask)
        names.update((found.experiment_id, found.name) for found in page)
        token = page.token
        if not token:
            return names
