"""Tables for pandas: trials with a typed column for each field, and tidy curves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import pandas as pd

from harness.core.metrics import BEST, BEST_EPOCH
from harness.experiment.fields import COMPONENT_KINDS
from harness.experiment.trial import MAIN_FIELDS, TRIAL_FIELDS, TYPES
from harness.store.names import ABSENT, PARAM_CONFIG, PARAM_TRIAL
from harness.store.read.results import Results

NAMES: Final = {PARAM_TRIAL: "trial", PARAM_CONFIG: "config"}
"""Columns that have another name here."""
OF_RUNS: Final = ("experiment", "started", "device_name", "exclusive", "reason", "run_id")
OF_SEARCHES: Final = ("tuning", "study", "role")
"""Columns of results among which a search's are."""
MISSING: Final = ("", ABSENT, "none", "nan")
"""Texts that stand for no number."""
FLOATS: Final = tuple(name for name, kind in TYPES.items() if kind in (float, float | None))
"""Fields that are floats, even where all values are whole."""
TRUTHS: Final = {"true": True, "false": False}


def trials_table(results: Results) -> pd.DataFrame:
    """Returns a row for each trial: its ids, its outcome, its fields and options with their types,
    its metrics, and where and when it ran.

    A column of an option is a number, an integer or a truth value if all its values are; otherwise
    it is text. What a trial does not have is missing.
    """
    stored = results.trials
    fields = [*MAIN_FIELDS, *TRIAL_FIELDS, *results.fields]
    names = [name for name in dict.fromkeys(fields) if name in stored and name not in NAMES]
    columns: dict[str, Any] = {new: stored[name] for name, new in NAMES.items()}
    columns["outcome"] = stored["outcome"].astype(str)
    columns |= {name: typed_column(stored[name], name) for name in names if _is_given(stored[name])}
    columns |= {name: stored[name] for name in results.scalars if stored[name].notna().any()}
    of_searches = OF_SEARCHES if stored["tuning"].any() or stored["role"].any() else ()
    others = (*of_searches, *OF_RUNS)
    columns |= {name: stored[name] for name in others if stored[name].notna().any()}
    return pd.DataFrame(columns).reset_index(drop=True)


def _is_given(column: pd.Series[Any]) -> bool:
    return bool((column.astype(str) != ABSENT).any())


def typed_column(column: pd.Series[Any], name: str) -> pd.Series[Any]:
    """Returns a column of text with the type that all its values have."""
    if isinstance(column.dtype, pd.Int64Dtype):
        return column if column.isna().any() else column.astype("int64")
    texts = column.astype("str")
    missing = texts.isin(MISSING)
    given = texts[~missing]
    numbers = pd.to_numeric(given, errors="coerce")
    if name in COMPONENT_KINDS or (given.empty and name not in FLOATS):
        return texts.where(~missing if given.empty and "." in name else texts != ABSENT)
    if given.isin(list(TRUTHS)).all() and not given.empty:
        return given.map(TRUTHS).astype("boolean").reindex(texts.index)
    if numbers.isna().any():
        return texts.where(texts != ABSENT)
    if name not in FLOATS and given.str.fullmatch(r"[-+]?\d{1,18}").all():
        integers = numbers.astype("Int64").reindex(texts.index)
        return integers if missing.any() else integers.astype("int64")
    return numbers.astype("float64").reindex(texts.index)


def curves_table(results: Results, metrics: Iterable[str] | None) -> pd.DataFrame:
    """Returns columns trial, epoch, metric and value: a row for each measurement.

    metrics: the names of metrics; by default all that measure the model.
    """
    columns = ["trial", "epoch", "metric", "value"]
    wanted = list(_measured(results) if metrics is None else metrics)
    runs = results.trials.set_index("run_id")[PARAM_TRIAL]
    if results.details is None:
        return pd.DataFrame(columns=columns)
    points = results.details.histories(list(runs.index), wanted)
    points = points.rename(columns={"step": "epoch"})
    points["trial"] = points["run_id"].map(runs)
    order = points["run_id"].map({run: place for place, run in enumerate(runs.index)})
    points = points.assign(order=order).sort_values(["order", "metric", "epoch"])
    typed = points[columns].astype({"epoch": "int64", "value": "float64"})
    return typed.reset_index(drop=True)


def _measured(results: Results) -> list[str]:
    """Returns the metrics of which trials have a best value: those of each evaluation."""
    best = (name for name in results.scalars if name.startswith(BEST) and name != BEST_EPOCH)
    return [name.removeprefix(BEST) for name in best]
