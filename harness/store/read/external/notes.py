"""What a table of runs leaves open, in sentences for the report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from harness.core.text import join_with_and, plural
from harness.store.read.external.columns import respelled, setting_texts
from harness.store.read.external.roles import ColumnRoles

FEW_VALUES = 20
"""A column with more values than this is a measurement, not a setting that somebody forgot."""
MOST_NAMES = 5
NO_SEED = (
    "It was not said which runs had the same seed (--seed), so that they cannot be paired: nothing "
    "is claimed of them."
)


def notes_about(
    rows: pd.DataFrame, settings: pd.DataFrame, roles: ColumnRoles, metrics: Sequence[str]
) -> Iterator[str]:
    """Yields what is to be known of runs.

    rows: everything that was kept of each run. settings: the texts of the columns that have a role.
    metrics: the columns of scores.
    """
    if not roles.seed:
        yield NO_SEED
        copies = int(rows.astype(str).duplicated().sum())
        if copies:
            yield f"Runs that equal another in every column, and count as runs: {copies}."
    others = [name for name in map(str, rows.columns) if name not in (*settings.columns, *metrics)]
    forgotten = _unnamed_settings(rows[others], settings[[*roles.settings, *roles.task]])
    if forgotten:
        yield (
            f"Runs of one config differ in {join_with_and(forgotten)}, and are averaged as if they "
            "differed in their seed alone. Name with --config what is a setting."
        )
    for name in roles.config:
        for spelled in respelled(rows[name]):
            yield f"{join_with_and(spelled)} are taken as one value of {name}."
    yield from _alike(settings, roles)


def left_out(counts: dict[str, int]) -> Iterator[str]:
    """Yields how many runs are left out. counts: by the reason."""
    for reason, count in counts.items():
        if count:
            yield f"Left out: {plural(count, 'run')} {reason}."


def _unnamed_settings(others: pd.DataFrame, settings: pd.DataFrame) -> list[str]:
    """Returns the columns with few values in which runs of one config differ.

    others: the columns without a role.
    """
    config = settings.groupby(list(settings.columns), sort=False).ngroup().to_numpy()
    configs = len(np.unique(config))
    found = []
    for name in others.columns:
        if others[name].astype(str).nunique() > 2 * FEW_VALUES:  # However they are spelled.
            continue
        codes, values = pd.factorize(np.array(setting_texts(others[name]), dtype=object))
        few = 1 < len(values) <= min(FEW_VALUES, len(others) // 2)
        if few and len(np.unique(config * len(values) + codes)) > configs:
            found.append(str(name))
    more = len(found) - MOST_NAMES
    return [*found[:MOST_NAMES], f"{more} more"] if more > 0 else found


def _alike(settings: pd.DataFrame, roles: ColumnRoles) -> Iterator[str]:
    """Yields contenders and tasks that differ in capital letters alone."""
    for column in (*roles.by, *roles.task):
        spelled: dict[str, list[str]] = {}
        for text in sorted(set(settings[column])):
            spelled.setdefault(text.casefold(), []).append(text)
        for names in spelled.values():
            if len(names) > 1:
                yield f"{join_with_and(names)} are different values of {column}."
