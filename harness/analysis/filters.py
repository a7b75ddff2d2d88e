"""Which trials meet a condition: `--where`, and an expectation's `where`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.text import format_value
from harness.experiment import conditions

Condition = Mapping[str, Any]
"""As in an experiment file: see `conditions.matches`."""
MOST_VALUES = 10
"""Values of a field that an error lists."""


def matching(trials: pd.DataFrame, condition: Condition) -> pd.DataFrame:
    """The trials of which the condition holds; none of those whose resolved trial is lost."""
    if not condition:
        return trials
    held = [
        isinstance(stored, str) and conditions.matches(condition, json.loads(stored))
        for stored in trials["trial"]
    ]
    return trials[held]


def require_matching(
    trials: pd.DataFrame, fields: Sequence[str], condition: Condition
) -> pd.DataFrame:
    """The same; raises InputError for a field that no trial has, and, with the values there are,
    where no trial is left."""
    unknown = [name for name in condition if name not in fields]
    if unknown:
        raise InputError(
            [Problem(f"no trial has a field {n!r}", hint=did_you_mean(n, fields)) for n in unknown]
        )
    kept = matching(trials, condition)
    if kept.empty:
        asked = ", ".join(f"{name}={format_value(wanted)}" for name, wanted in condition.items())
        there = "; ".join(f"{name} is one of {_values(trials[name])}" for name in condition)
        raise InputError(Problem(f"no trial has {asked}", hint=there))
    return kept


def _values(column: pd.Series[Any]) -> str:
    values = sorted({str(value) for value in column}, key=natural)
    return ", ".join(values[:MOST_VALUES]) + (", …" if len(values) > MOST_VALUES else "")


def natural(value: str) -> tuple[int, float, str]:
    """A sort key: numbers by their size, before text by its letters."""
    try:
        return (0, float(value), "")
    except ValueError:
        return (1, 0.0, value)
