"""A table of a user's own: read by pandas, its columns made into numbers.

What a column holds is decided by the whole file (its kind, its categories: the table's shape);
what is computed from values (means, deviations) is left to the training split.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.components.base import TableColumns, Task
from harness.core.errors import InputError, Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MOST_CATEGORIES: Final = 100
"""A text column with more values than this is a name or a date, unless the user says otherwise."""
MOST_CLASSES: Final = 20
"""A target of more whole numbers than this is taken for a quantity."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table by their part in it, in the file's order."""

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """An encoded target. values: [N] int64 class numbers or [N, 1] float32."""

    task: Task
    values: NDArray[Any]
    classes: tuple[str, ...] = ()


def read(path: Path, separator: str, decimal: str, texts: Sequence[str] = ()) -> pd.DataFrame:
    """A table with a header line. texts: columns to leave as they are spelt.

    Raises InputError where pandas cannot read it.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # Rows longer than the first line would lose their last values.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                decimal=decimal,
                index_col=False,
                low_memory=False,
                dtype=dict.fromkeys(texts, str),
            )
    except pd.errors.ParserWarning as error:
        raise InputError(f"{path} has rows with more columns than its first line names") from error
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    if frame.empty:
        raise InputError(f"{path} has no rows")
    return frame.rename(columns=str)


def unknown_columns(
    frame: pd.DataFrame, target: str, **named: Sequence[str] | None
) -> list[Problem]:
    """What is wrong with the columns that options name: absent from the table, or named twice."""
    problems = [
        Problem(f"{option}: no column {name!r}", hint=did_you_mean(name, frame.columns))
        for option, names in (("target", (target,)), *named.items())
        for name in names or ()
        if name not in frame.columns
    ]
    all_named = [target, *(name for names in named.values() for name in names or ())]
    twice = sorted({name for name in all_named if all_named.count(name) > 1})
    return problems + [Problem(f"column {name!r} is named twice") for name in twice]


def sort_columns(
    frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> Columns:
    """Columns as named, the others by their type: numbers are numeric, the rest categories.

    Raises InputError for a column with too many values to be categories that nobody named so.
    """
    from pandas.api import types

    def is_number(name: str) -> bool:
        if name in numeric or name in categorical:
            return name in numeric
        column = frame[name]
        return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)

    numbers = tuple(name for name in frame.columns if is_number(name))
    categories = tuple(name for name in frame.columns if name not in numbers)
    counts = {name: frame[name].nunique() for name in categories if name not in categorical}
    problems = [
        Problem(
            f"column {name!r} is no number and has {count} different values",
            hint="leave it out by `ignore`, or list it in `categorical` to encode them all",
        )
        for name, count in counts.items()
        if count > MOST_CATEGORIES
    ]
    if problems:
        raise InputError(problems)
    return Columns(numbers, categories)


def missing_counts(frame: pd.DataFrame) -> dict[str, int]:
    """How many values are missing, for each column that misses any."""
    counts = frame.isna().sum()
    return {str(name): int(count) for name, count in counts.items() if count}


def with_levels(frame: pd.DataFrame, columns: Columns) -> TableColumns:
    """The columns with each category that the table shows, sorted. Raises InputError for none."""
    levels = []
    for name in columns.categorical:
        known = frame[name].dropna().astype(object)
        levels.append((name, tuple(sorted({str(value) for value in known}))))
    found = TableColumns(columns.numeric, tuple(levels), header=True)
    if not found.inputs:
        raise InputError("no column is left to learn from")
    return found


def encode_inputs(frame: pd.DataFrame, columns: TableColumns) -> NDArray[Any]:
    """Inputs [N, features] float32: numbers, then each category as 0 or 1; NaN where missing."""
    import numpy as np

    parts = [numbers(frame[name])[:, None] for name in columns.numeric]
    for name, levels in columns.categorical:
        text = frame[name].astype(object)
        known = text.notna().to_numpy()
        labels = np.array([str(value) for value in text], dtype=object)
        encoded = (labels[:, None] == np.array(levels, dtype=object)).astype(np.float32)
        encoded[~known] = np.nan
        parts.append(encoded)
    return np.concatenate(parts, axis=1, dtype=np.float32)


def read_alike(path: Path, columns: TableColumns) -> pd.DataFrame:
    """The columns of another table of the same kind, its categories as `columns` writes them.

    Other columns are left out. Raises InputError naming each column that is absent and each
    category that `columns` does not list.
    """
    texts = tuple(name for name, _ in columns.categorical)
    frame = read(path, columns.separator, columns.decimal, texts)
    absent = [name for name in columns.names if name not in frame.columns]
    if absent:
        raise InputError(
            [
                Problem(f"has no column {name!r}", str(path), did_you_mean(name, frame.columns))
                for name in absent
            ]
        )
    problems: list[Problem] = []
    for name, levels in columns.categorical:
        known = {value: _level(value, levels, columns.decimal) for value in frame[name].dropna()}
        problems += [
            Problem(
                f"column {name!r} has {value!r}, a category that the model was not trained on",
                where=str(path),
                hint=did_you_mean(value, levels),
            )
            for value, level in known.items()
            if level is None
        ]
        frame[name] = frame[name].map(known)
    if problems:
        raise InputError(problems)
    return frame[list(columns.names)]


def _level(text: str, levels: Sequence[str], decimal: str) -> str | None:
    """The category that a cell's text means. Of a column of numbers or truth values the training
    table's categories are spelt as pandas prints what it read: "3.0", "True"."""
    if text in levels:
        return text

    def meaning(spelt: str) -> float | str:
        try:
            return float(spelt.replace(decimal, "."))
        except ValueError:
            return spelt.lower() if spelt.lower() in ("true", "false") else spelt

    wanted = meaning(text)
    return next((level for level in levels if meaning(level) == wanted), None)


def encode_target(
    column: pd.Series[Any], task: Literal["auto", "classification", "regression"]
) -> Target:
    """Class numbers in the order of the sorted classes, or values.

    By itself, text, truth values and up to 20 different whole numbers are classes.
    """
    import numpy as np
    from pandas.api import types

    if task == "regression" or (task == "auto" and not _has_classes(column)):
        return Target(Task.REGRESSION, numbers(column)[:, None].astype(np.float32))
    if types.is_numeric_dtype(column) and (column == column.round()).all():
        column = column.astype("int64") if not types.is_bool_dtype(column) else column
    levels = sorted(column.unique(), key=None if types.is_numeric_dtype(column) else str)
    if len(levels) < 2:
        raise InputError(f"target {column.name!r} has one class alone: {levels[0]}")
    order = {level: number for number, level in enumerate(levels)}
    values = column.map(order).to_numpy(dtype=np.int64)
    task_of = Task.BINARY if len(levels) == 2 else Task.MULTICLASS
    return Target(task_of, values, tuple(str(level) for level in levels))


def _has_classes(column: pd.Series[Any]) -> bool:
    from pandas.api import types

    if types.is_bool_dtype(column) or not types.is_numeric_dtype(column):
        return True
    return column.nunique() <= MOST_CLASSES and bool((column == column.round()).all())


def numbers(column: pd.Series[Any]) -> NDArray[Any]:
    """A column as float64 [N], NaN where missing. Raises InputError for text and infinities."""
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = (np.isnan(values) & column.notna().to_numpy()) | np.isinf(values)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"column {column.name!r}: {column.iloc[row]!r} in row {column.index[row] + 1} "
            f"is no finite number ({int(wrong.sum())} such)"
        )
    return values
