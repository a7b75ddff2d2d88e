"""Puts what was read of another program's runs into the table that every report is made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from harness.core.metrics import (
    BEST,
    BEST_EPOCH,
    EPOCHS_TO_TARGET,
    EVAL_SECONDS,
    EXAMPLES_TO_TARGET,
    FINAL,
    GIVEN,
    PEAK_MEMORY,
    THROUGHPUT,
    TRAIN_SECONDS,
)
from harness.experiment.trial import COMPONENT_LIST_FIELDS, NO_AUGMENTATION
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL
from harness.store.read.external.columns import is_number, plain_setting, seed_numbers
from harness.store.read.external.roles import ColumnRoles, External
from harness.store.read.results import RUN_COLUMNS, Results, no_run

TASK = "dataset"
"""The field that separates tasks in every report."""
SEED = "seed"
MEASURED = (
    *(BEST_EPOCH, EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, TRAIN_SECONDS, EVAL_SECONDS),
    *(THROUGHPUT, PEAK_MEMORY),
)
"""Columns that a section of the report reads as numbers."""
ID_DIGITS = 16


def assemble(
    name: str,
    settings: pd.DataFrame,
    roles: ColumnRoles,
    runs: pd.DataFrame,
    scalars: pd.DataFrame,
    external: External,
) -> Results:
    """Returns the results of runs.

    settings: the text of every column that describes a run. runs: some of `RUN_COLUMNS`, with
        `run_id`. scalars: by name, with the prefix that says which value of the metric it is.
    All three have a row for each run, in the same order, and are indexed from 0.
    """
    fields = field_names(roles)
    tasks = _task_labels(settings, roles)
    described: dict[str, Any] = {fields[column]: settings[column] for column in fields}
    described[TASK] = tasks
    if roles.seed:
        described[SEED] = seed_numbers(list(settings[roles.seed]))
    described |= {PARAM_CONFIG: _config_ids(settings, roles), PARAM_TRIAL: runs["run_id"]}
    unknown = {column: [value] * len(runs) for column, value in no_run(name).items()}
    trial = {"trial": _described_trials(settings, roles, fields, tasks)}
    values = {str(column): scalars[column] for column in scalars}
    of_runs = {str(column): runs[column] for column in runs}
    return Results(
        experiment=name,
        trials=pd.DataFrame({**unknown, **of_runs, **trial, **described, **values}),
        fields=tuple(described),
        metric=roles.metric,
        direction=roles.direction,
        target=None,
        expect=(),
        superseded=0,
        external=replace(
            external,
            by=tuple(fields[column] for column in roles.by),
            fields=fields | ({roles.seed: SEED} if roles.seed else {}),
        ),
    )


def field_names(roles: ColumnRoles) -> dict[str, str]:
    """Returns the field of each column that describes a run, except for the seed's.

    A column gets another name where a report would take its own for something else: "version
    (column)" beside the version of the harness, or "model hidden" for "model.hidden" beside
    "model", of which that would be an option.
    """
    columns = list(dict.fromkeys((*roles.settings, *roles.task)))
    scores = (f"{prefix}{roles.metric}" for prefix in (BEST, FINAL, GIVEN))
    taken = {*RUN_COLUMNS, *MEASURED, *scores, PARAM_TRIAL, PARAM_CONFIG, SEED, TASK}
    if roles.task == (TASK,):
        taken.remove(TASK)
    fields: dict[str, str] = {}
    for column in columns:
        root, dot, _ = column.partition(".")
        name = column.replace(".", " ") if dot and root in (*columns, TASK, SEED) else column
        while name in taken:
            name += " (column)"
        taken.add(name)
        fields[column] = name
    return fields


def _task_labels(settings: pd.DataFrame, roles: ColumnRoles) -> list[str]:
    """Returns the task of each run: "digits", "digits, depth 3", "task 31"."""
    if not roles.task:
        return [ABSENT] * len(settings)
    parts = [
        [f"{column} {text}" if is_number(text) else text for text in settings[column]]
        for column in roles.task
    ]
    return [", ".join(texts) for texts in zip(*parts, strict=True)]


def _config_ids(settings: pd.DataFrame, roles: ColumnRoles) -> list[str]:
    """Returns the id of each run's config."""
    columns = [*roles.settings, *roles.task]
    numbers = settings.groupby(columns, sort=False).ngroup()
    ids = [
        hashlib.sha256(json.dumps([columns, *key]).encode()).hexdigest()[:ID_DIGITS]
        for key in settings[columns].drop_duplicates().itertuples(index=False, name=None)
    ]
    return [ids[number] for number in numbers]


def _described_trials(
    settings: pd.DataFrame, roles: ColumnRoles, fields: Mapping[str, str], tasks: Sequence[str]
) -> list[str]:
    """Returns each run's settings as JSON, which `--where` reads."""
    known: dict[tuple[str, ...], str] = {}
    configs = []
    for row in zip(tasks, *(settings[column] for column in fields), strict=True):
        if row not in known:
            values: dict[str, Any] = {TASK: row[0]}
            for field, text in zip(fields.values(), row[1:], strict=True):
                _put(values, field, plain_setting(text))
            known[row] = json.dumps(values)
        configs.append(known[row])
    if not roles.seed:
        return configs
    seeds = {text: json.dumps(plain_setting(text)) for text in set(settings[roles.seed])}
    both = zip(configs, settings[roles.seed], strict=True)
    return [f'{config[:-1]}, "{SEED}": {seeds[seed]}}}' for config, seed in both]


def _put(values: dict[str, Any], field: str, value: Any) -> None:
    """Puts a setting where `grid.matches` looks for it."""
    root, dot, option = field.partition(".")
    if dot:
        values.setdefault(root, {})[option] = value
    elif root in COMPONENT_LIST_FIELDS:
        values[root] = [] if value in (None, NO_AUGMENTATION) else [value]
    else:
        values[root] = value
