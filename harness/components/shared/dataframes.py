"""CSV tables of users: reads them with pandas and encodes their columns as numbers.

The whole file decides the kind and the categories of a column. Statistics of its values are
computed later, on the training split alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from harness.components.base import TableColumns, Task
from harness.core.errors import InputError, Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_CATEGORIES: Final = 100
"""A text column with more distinct values is probably a name or a date, and is refused."""
MAX_CLASSES: Final = 20
"""A target of whole numbers with more distinct values is a quantity, not a class."""


def read_csv(
    path: Path, separator: str, decimal: str, text_columns: Sequence[str] = ()
) -> pd.DataFrame:
    """Reads a table with a header line.

    text_columns: columns that stay text.
    Raises InputError if pandas cannot read the file.
    """
    import pandas as pd

    try:
        with warnings.catch_warnings():
            # A row longer than the header line would lose its last values.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            frame = pd.read_csv(
                path,
                sep=separator,
                decimal=decimal,
                index_col=False,
                low_memory=False,
                dtype=dict.fromkeys(text_columns, str),
            )
    except pd.errors.ParserWarning as error:
        raise InputError(f"{path} has rows with more columns than its first line names") from error
    except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors.
        raise InputError(f"{path} cannot be read as a table: {error}") from error
    if frame.empty:
        raise InputError(f"{path} has no rows")
    return frame.rename(columns=str)


def check_columns(frame: pd.DataFrame, target: str, **columns_of: Sequence[str]) -> list[Problem]:
    """Returns the problems of columns that options name: they do not exist, or are named twice.

    columns_of: the columns that each option names.
    """
    problems = [
        Problem(f"{option}: no column {name!r}", hint=did_you_mean(name, frame.columns))
        for option, names in (("target", (target,)), *columns_of.items())
        for name in names
        if name not in frame.columns
    ]
    named = [target, *(name for names in columns_of.values() for name in names)]
    repeated = sorted({name for name in named if named.count(name) > 1})
    return problems + [Problem(f"column {name!r} is named twice") for name in repeated]


def describe_columns(
    frame: pd.DataFrame, numeric: Sequence[str], categorical: Sequence[str]
) -> TableColumns:
    """Returns the columns by kind, with the sorted categories of each categorical column.

    numeric, categorical: columns of these kinds. Any other is numeric if its values are numbers,
        else categorical.
    Raises InputError if another column has too many values for categories, or if no column is left.
    """
    from pandas.api import types

    def is_number(name: str) -> bool:
        if name in numeric or name in categorical:
            return name in numeric
        column = frame[name]
        return types.is_numeric_dtype(column) and not types.is_bool_dtype(column)

    numbers = tuple(name for name in frame.columns if is_number(name))
    others = [name for name in frame.columns if name not in numbers]
    counts = {name: frame[name].nunique() for name in others if name not in categorical}
    problems = [
        Problem(
            f"column {name!r} is not numeric and has {count} different values",
            hint="leave it out with `ignore`, or list it in `categorical` to encode them all",
        )
        for name, count in counts.items()
        if count > MAX_CATEGORIES
    ]
    if problems:
        raise InputError(problems)
    categories = []
    for name in others:
        known = frame[name].dropna().astype(object)
        categories.append((name, tuple(sorted({str(value) for value in known}))))
    columns = TableColumns(numbers, tuple(categories), header=True)
    if not columns.inputs:
        raise InputError("no column is left to learn from")
    return columns


def encode_inputs(frame: pd.DataFrame, columns: TableColumns) -> NDArray[Any]:
    """Returns [N, features] float32: numbers, then one-hot categories; NaN where missing."""
    import numpy as np

    parts = [_as_numbers(frame[name])[:, None] for name in columns.numeric]
    for name, categories in columns.categorical:
        values = frame[name].astype(object)
        labels = np.array([str(value) for value in values], dtype=object)
        encoded = (labels[:, None] == np.array(categories, dtype=object)).astype(np.float32)
        encoded[values.isna().to_numpy()] = np.nan
        parts.append(encoded)
    return np.concatenate(parts, axis=1, dtype=np.float32)


def read_matching(path: Path, columns: TableColumns) -> pd.DataFrame:
    """Reads the same columns of another table, with categories spelt as in `columns`.

    Other columns are ignored. Raises InputError for missing columns and for categories that
    `columns` does not have.
    """
    text_columns = tuple(name for name, _ in columns.categorical)
    frame = read_csv(path, columns.separator, columns.decimal, text_columns)
    absent = [name for name in columns.names if name not in frame.columns]
    if absent:
        raise InputError(
            [
                Problem(f"has no column {name!r}", str(path), did_you_mean(name, frame.columns))
                for name in absent
            ]
        )
    problems: list[Problem] = []
    for name, categories in columns.categorical:
        matches = {
            value: _matching_category(value, categories, columns.decimal)
            for value in frame[name].dropna()
        }
        problems += [
            Problem(
                f"column {name!r} has {value!r}, a category that the model was not trained on",
                where=str(path),
                hint=did_you_mean(value, categories),
            )
            for value, category in matches.items()
            if category is None
        ]
        frame[name] = frame[name].map(matches)
    if problems:
        raise InputError(problems)
    return frame[list(columns.names)]


def _matching_category(text: str, categories: Sequence[str], decimal: str) -> str | None:
    """Returns the category that a cell's text means.

    Categories that pandas read as numbers or booleans are spelt as pandas prints them: "3.0",
    "True".
    """
    if text in categories:
        return text

    def meaning(spelling: str) -> float | str:
        try:
            return float(spelling.replace(decimal, "."))
        except ValueError:
            return spelling.lower() if spelling.lower() in ("true", "false") else spelling

    value = meaning(text)
    return next((category for category in categories if meaning(category) == value), None)


def encode_target(
    column: pd.Series[Any], task: Literal["auto", "classification", "regression"]
) -> tuple[Task, NDArray[Any], tuple[str, ...]]:
    """Returns the task, the target as numbers, and the names of the classes.

    The numbers are [N] int64, in the order of the sorted classes, or [N, 1] float32.

    task: "auto" treats text, booleans and up to 20 distinct whole numbers as classes.
    Raises InputError if there is only one class.
    """
    import numpy as np
    from pandas.api import types

    if task == "regression" or (task == "auto" and not _has_classes(column)):
        return Task.REGRESSION, _as_numbers(column)[:, None].astype(np.float32), ()
    if types.is_numeric_dtype(column) and (column == column.round()).all():
        column = column.astype("int64") if not types.is_bool_dtype(column) else column
    levels = sorted(column.unique(), key=None if types.is_numeric_dtype(column) else str)
    if len(levels) < 2:
        raise InputError(f"target {column.name!r} has only one class: {levels[0]}")
    numbers = {level: number for number, level in enumerate(levels)}
    return (
        Task.BINARY if len(levels) == 2 else Task.MULTICLASS,
        column.map(numbers).to_numpy(dtype=np.int64),
        tuple(str(level) for level in levels),
    )


def _has_classes(column: pd.Series[Any]) -> bool:
    from pandas.api import types

    if types.is_bool_dtype(column) or not types.is_numeric_dtype(column):
        return True
    return column.nunique() <= MAX_CLASSES and bool((column == column.round()).all())


def _as_numbers(column: pd.Series[Any]) -> NDArray[Any]:
    """Returns a column as [N] float64, NaN where missing. Raises InputError for text and inf."""
    import numpy as np
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    invalid = (np.isnan(values) & column.notna().to_numpy()) | np.isinf(values)
    if invalid.any():
        row = int(invalid.argmax())
        raise InputError(
            f"column {column.name!r}: {column.iloc[row]!r} in row {column.index[row] + 1} "
            f"is not a finite number ({int(invalid.sum())} such values)"
        )
    return values
