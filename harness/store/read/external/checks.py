"""What a table of runs must be to be compared. Everything else is refused, with its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.metrics import test_metric
from harness.core.text import join_with_and, plural
from harness.store.names import ABSENT
from harness.store.read.external.columns import Scores, is_number, respelled, setting_texts
from harness.store.read.external.roles import ColumnRoles

MOST_PROBLEMS = 5
"""Most rows that an error names."""
MOST_NAMES = 5


def require_columns(names: Sequence[str], flags: Mapping[str, str], what: str = "column") -> None:
    """Raises InputError for columns that are not there, or there twice.

    names: those that there are. flags: the flag that names each column. what: they are called.
    """
    problems = []
    for column, flag in flags.items():
        if names.count(column) > 1:
            problems.append(Problem(f"{flag}: there are several columns {column!r}"))
        elif column not in names:
            # MLflow has tags of its own on every run.
            hint = did_you_mean(column, (n for n in names if not n.startswith("mlflow.")))
            problems.append(Problem(f"{flag}: there is no {what} {column!r}", hint=hint))
    if problems:
        raise InputError(problems)


def require_settings(settings: pd.DataFrame, roles: ColumnRoles, places: Sequence[str]) -> None:
    """Raises InputError if there are no rows, or rows without a contender, a task or a seed."""
    if settings.empty:
        raise InputError("there are no runs: the table has no rows")
    problems = [
        Problem(f"there is no {name}", where=places[row])
        for name in roles.needed
        for row in np.flatnonzero(settings[name] == ABSENT).tolist()
    ]
    _refuse(problems)


def refuse_respelled(rows: pd.DataFrame, roles: ColumnRoles) -> None:
    """Raises InputError for contenders or tasks such as "1.1" and "1.10", which are one number and
    may be two versions."""
    spellings = [(name, of) for name in (*roles.by, *roles.task) for of in respelled(rows[name])]
    hint = "write numbers in one way, and versions as words (v1.10)"
    _refuse(
        [
            Problem(f"{roles.flags[name]}: {join_with_and(of)} of {name} are one number", hint=hint)
            for name, of in spellings
        ]
    )


def refuse_text(scores: Mapping[str, Scores], places: Sequence[str]) -> None:
    """Raises InputError for scores that are no numbers."""
    problems = []
    for metric, of in scores.items():
        for row, text in of.faults.items():
            hint = ""
            if text.endswith("%"):
                hint = "write a percentage as a number, without %"
            elif text.count(",") == 1 and is_number(text.replace(",", ".")):
                hint = "write decimals with a point"
            what = f"{metric} is {text[:40]!r}, and must be a number, nan, inf or empty"
            problems.append(Problem(what, where=places[row], hint=hint))
    _refuse(problems)


def refuse_repeated_runs(
    rows: pd.DataFrame, settings: pd.DataFrame, roles: ColumnRoles, places: Sequence[str]
) -> None:
    """Raises InputError if two rows are the same contender, config, task and seed."""
    repeated = settings.duplicated(keep=False)
    if not roles.seed or not repeated.any():
        return
    numbers = settings[repeated].groupby(list(settings.columns), sort=False).ngroup()
    first = numbers.index[numbers == 0].tolist()
    values = ", ".join(f"{name}={text}" for name, text in settings.iloc[first[0]].items())
    listed = join_with_and(places[row] for row in first[:MOST_PROBLEMS])
    listed += f" (and {len(first) - MOST_PROBLEMS} more)" if len(first) > MOST_PROBLEMS else ""
    groups = int(numbers.max())
    more = f"; {plural(groups, 'run')} more are repeated" if groups else ""
    known = (*roles.flags, test_metric(roles.metric))
    others = [name for name in map(str, rows.columns) if name not in known]
    differing = [n for n in others if len(set(setting_texts(rows[n].iloc[first]))) > 1]
    # A column with another value for almost every run is a measurement.
    few = [n for n in differing if 2 * len(set(setting_texts(rows[n]))) <= len(rows)]
    differing = few or differing
    hint = "a run counts once: leave the repeated rows out"
    if differing:
        names = ", ".join(differing[:MOST_NAMES])
        hint = f"they differ in {names}: name with --config what is a setting of the run"
    raise InputError(Problem(f"{listed} are one run: {values}{more}", hint=hint))


def _refuse(problems: Sequence[Problem]) -> None:
    """Raises InputError with the first problems, if there are any."""
    more = len(problems) - MOST_PROBLEMS
    if problems:
        last = [Problem(f"and {plural(more, 'fault')} more")] if more > 0 else []
        raise InputError([*problems[:MOST_PROBLEMS], *last])
