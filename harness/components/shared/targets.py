"""The target columns of a CSV table: what is learned of them, and their values as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import Task
from harness.components.shared.column_statistics import check_targets
from harness.components.shared.dataframes import PADDED, Texts, as_numbers, check_labels
from harness.core.errors import InputError, Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_CLASSES: Final = 20
"""A target of whole numbers with more distinct values is a quantity, not a class."""


@dataclass(frozen=True, slots=True)
class Targets:
    """Targets as numbers.

    values: [N] int64 class numbers, or [N, T] float64. class_names: of classes or labels.
    """

    task: Task
    values: NDArray[Any]
    class_names: tuple[str, ...] = ()


def read_targets(frame: pd.DataFrame, names: Sequence[str], task: str, texts: Texts) -> None:
    """Changes target columns to what they mean: classes that are no plain numbers are text.

    task: as an option of the data set.
    """
    if len(names) == 1:
        meant = "classification" if task == "ordinal" else task
        frame[names[0]] = _read_target(frame[names[0]], meant, texts)


def encode_targets(
    frame: pd.DataFrame, names: Sequence[str], task: str, order: Sequence[str], texts: Texts
) -> Targets:
    """Returns the targets of a table without missing ones. Raises InputError for values that do not
    fit the task.

    task, order: as options of the data set.
    """
    if order and task != "ordinal":
        raise InputError("order: only the classes of task: ordinal have one")
    columns = [frame[name] for name in names]
    if task == "auto" and len(names) > 1:
        task = "multilabel" if all(_wrong_label(c) is None for c in columns) else "regression"
    if task == "multilabel":
        return _labels(columns)
    if task == "count":
        return Targets(Task.COUNT, _counts(columns, texts))
    if len(names) == 1:
        found = Targets(*_encode_target(columns[0], task, texts))
        if not found.task.is_classification:
            check_targets(found.values, names[0])
        return _ordered(found, columns[0], order) if task == "ordinal" else found
    if task != "regression":
        hint = "make a data set of each, or list columns of 0 and 1, one for each label"
        raise InputError(Problem(f"target: task: {task} has one target", hint=hint))
    return Targets(Task.REGRESSION, _values(columns, texts))


def _labels(columns: Sequence[pd.Series[Any]]) -> Targets:
    import numpy as np

    problems = [
        Problem(
            f"column {column.name!r} has {str(wrong)!r}: a label is 0 or 1",
            hint="for numbers set task: regression",
        )
        for column in columns
        if (wrong := _wrong_label(column)) is not None
    ]
    if problems:
        raise InputError(problems)
    values = np.stack([column.to_numpy(dtype=np.float64) for column in columns], axis=1)
    return Targets(Task.MULTILABEL, values, tuple(str(column.name) for column in columns))


def _wrong_label(column: pd.Series[Any]) -> object:
    """Returns a value of the column that is neither 0 nor 1; None if all are."""
    return next((value for value in column.dropna().unique() if value not in (0, 1)), None)


def _values(columns: Sequence[pd.Series[Any]], texts: Texts) -> NDArray[Any]:
    """Returns numbers, [N, T] float64."""
    import numpy as np

    values = np.stack([as_numbers(column, texts) for column in columns], axis=1)
    for column, numbers in zip(columns, values.T, strict=True):
        check_targets(numbers[:, None], str(column.name))
    return values


def _counts(columns: Sequence[pd.Series[Any]], texts: Texts) -> NDArray[Any]:
    import numpy as np

    values = _values(columns, texts)
    wrong = (values < 0) | (values != np.round(values))
    if wrong.any():
        row, place = (int(indices[0]) for indices in wrong.nonzero())
        column = columns[place]
        what = f"column {column.name!r}: {column.iloc[row]} in row {column.index[row] + 1} is no "
        hint = "for other numbers set task: regression"
        raise InputError(Problem(f"{what}count: a count is 0, 1, 2, …", hint=hint))
    return values


def _ordered(found: Targets, column: pd.Series[Any], order: Sequence[str]) -> Targets:
    """Returns classes in the order that is given, or else in that of their numbers."""
    import numpy as np
    from pandas.api import types

    levels = found.class_names
    if not order and not types.is_numeric_dtype(column):
        what = "order is not set: the classes of task: ordinal are text"
        hint = f"set order: [{', '.join(levels)}], from the lowest to the highest"
        raise InputError(Problem(what, hint=hint))
    order = tuple(order) or levels
    repeated = sorted({name for name in order if order.count(name) > 1})
    problems = [Problem(f"order: {name!r} is given twice") for name in repeated]
    problems += [
        Problem(f"order: the class {level!r} is missing", hint=did_you_mean(level, order))
        for level in levels
        if level not in order
    ]
    if problems:
        raise InputError(problems)
    ranks = np.array([order.index(level) for level in levels], dtype=np.int64)
    return Targets(Task.ORDINAL, ranks[found.values], order)


def _read_target(column: pd.Series[Any], task: str, texts: Texts) -> pd.Series[Any]:
    """Returns a target as it is meant: classes that are no plain numbers as they are written.

    column: as pandas reads it. With the task "classification", only an empty cell is missing. With
    "auto", numbers with leading zeros are labels if there are few of them.
    """
    from pandas.api import types

    if task == "regression" or (task == "auto" and not _has_classes(column)):
        return column
    if task == "auto" and not types.is_numeric_dtype(column):
        return column
    text = texts(str(column.name))
    known = text if task == "classification" else text.where(column.notna())
    if types.is_numeric_dtype(column) and known.notna().equals(column.notna()):
        return known if known.dropna().str.match(PADDED).any() else column
    return known


def _encode_target(
    column: pd.Series[Any],
    task: str,
    texts: Texts,
) -> tuple[Task, NDArray[Any], tuple[str, ...]]:
    """Returns the task, the target as numbers, and the names of the classes.

    The numbers are [N] int64, in the order of the sorted classes, or [N, 1] float64.

    task: "auto" treats text, booleans and up to 20 distinct whole numbers as classes.
    Raises InputError if there is only one class, or a label is not what it seems.
    """
    import numpy as np
    from pandas.api import types

    if task == "regression" or (task == "auto" and not _has_classes(column)):
        return Task.REGRESSION, as_numbers(column, texts)[:, None], ()
    if types.is_numeric_dtype(column):
        if not types.is_bool_dtype(column) and (column == column.round()).all():
            column = column.astype("int64")
    else:
        declared = task == "classification" or bool(column.astype(str).str.match(PADDED).any())
        problems = check_labels(str(column.name), sorted(map(str, column.unique())), declared)
        if problems:
            raise InputError(problems)
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
    known = column.dropna()
    return known.nunique() <= MAX_CLASSES and bool((known == known.round()).all())
