"""CSV tables of users: reads them with pandas and encodes their columns as numbers.

The whole file decides the kind and the categories of a column. Statistics of its values are
computed later, on the training split alone.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import TableColumns
from harness.components.shared.column_statistics import EXACT_INTEGERS
from harness.core.errors import InputError, Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

MAX_CATEGORIES: Final = 100
"""A text column with more distinct values is probably a name or a date, and is refused."""
SEPARATORS: Final = (",", ";", "\t", "|")

_WHOLE = re.compile(r"\s*[-+]?\d+\s*")
PADDED = re.compile(r"\s*[-+]?0\d")
_DRESSED = re.compile(r"[-+]?[$€£]?\s?(\d{1,3}([,.'_\s]\d{3})+|\d+)([.,]\d+)?\s?[$€£%]?")
"""A number in another notation, such as 12,000 or 5 %."""

Texts = Callable[[str], "pd.Series[Any]"]
"""Returns a column as it is written in the file."""


@dataclass(frozen=True, slots=True)
class CSVFile:
    """A table with a header line. separator, decimal: its dialect."""

    path: Path
    separator: str = ","
    decimal: str = "."

    def read(self, text: Sequence[str] = ()) -> pd.DataFrame:
        """Returns the table. Numbers are the float64 nearest to their decimals.

        text: columns that are read as they are written.
        Raises InputError if pandas cannot read the file.
        """
        # Only pandas before 3.1 needs the option.
        frame = self._read(low_memory=False, float_precision="round_trip")
        if frame.empty:
            raise InputError(f"{self.path} has no rows")
        for name in frame.columns.intersection(list(text)):
            frame[name] = self.text(name)
        return frame

    def text(self, name: str) -> pd.Series[Any]:
        """Returns a column as it is written. Only an empty cell is missing."""
        position = self._read(nrows=0).columns.get_loc(name)
        frame = self._read(usecols=[position], dtype=str, keep_default_na=False, na_values=[""])
        return frame.iloc[:, 0].astype(object).rename(name)

    def _read(self, **options: Any) -> pd.DataFrame:
        import pandas as pd

        path = self.path
        try:
            with warnings.catch_warnings():
                # A row longer than the header line would lose its last values.
                warnings.simplefilter("error", pd.errors.ParserWarning)
                warnings.filterwarnings("ignore", "The 'float_precision' argument")
                frame: pd.DataFrame = pd.read_csv(
                    path, sep=self.separator, decimal=self.decimal, index_col=False, **options
                )
        except pd.errors.ParserWarning as error:
            raise InputError(
                f"{path} has rows with more columns than its first line names"
            ) from error
        except (ValueError, OSError) as error:  # pandas' parser errors are ValueErrors.
            raise InputError(f"{path} cannot be read as a table: {error}") from error
        return frame.rename(columns=str)

    def likely_separator(self) -> str:
        """Returns the separator that the file seems to have in place of its own, or ""."""
        try:
            with self.path.open(encoding="utf-8", errors="replace") as file:
                header = file.readline()
        except OSError:
            return ""
        counts = {other: header.count(other) for other in SEPARATORS if other != self.separator}
        best = max(counts, key=lambda other: counts[other])
        return best if self.separator not in header and counts[best] else ""


def check_columns(
    frame: pd.DataFrame, targets: Sequence[str], **columns_of: Sequence[str]
) -> list[Problem]:
    """Returns the problems of columns that options name: they do not exist, or are named twice.

    columns_of: the columns that each option names.
    """
    problems = [
        Problem(f"{option}: no column {name!r}", hint=did_you_mean(name, frame.columns))
        for option, names in (("target", targets), *columns_of.items())
        for name in names
        if name not in frame.columns
    ]
    named = [*targets, *(name for names in columns_of.values() for name in names)]
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
        if types.is_bool_dtype(column):
            return False
        # Whole numbers beyond 64 bits are read as text.
        return types.is_numeric_dtype(column) or all(map(_is_number, column.dropna().unique()))

    numbers = tuple(name for name in frame.columns if is_number(name))
    labels = {
        name: tuple(sorted({str(value) for value in frame[name].dropna().astype(object)}))
        for name in frame.columns
        if name not in numbers
    }
    problems = [
        problem
        for name, of_column in labels.items()
        for problem in check_labels(name, of_column, declared=name in categorical)
    ]
    problems += [
        Problem(
            f"column {name!r} is not numeric and has {len(of_column)} different values",
            hint="leave it out with `ignore`, or list it in `categorical` to encode them all",
        )
        for name, of_column in labels.items()
        if name not in categorical and len(of_column) > MAX_CATEGORIES
    ]
    if problems:
        raise InputError(problems)
    columns = TableColumns(numbers, tuple(labels.items()), text=tuple(categorical), header=True)
    if not columns.inputs:
        raise InputError("no column is left to learn from")
    return columns


def check_labels(name: str, labels: Collection[str], declared: bool) -> list[Problem]:
    """Returns why the distinct values of a column of text may not be what they seem.

    declared: whether the user says that the column has categories.
    """
    where = f"column {name!r}"
    stripped = Counter(label.strip() for label in labels)
    for label in labels:
        if label != label.strip() and (stripped[label.strip()] > 1 or not label.strip()):
            what = f"{where} has blanks around a label: {label!r}"
            return [Problem(what, hint="remove them in the file")]
    if declared:
        return []
    rest = [label for label in labels if not _is_number(label)]
    dressed = [label for label in rest if _DRESSED.fullmatch(label.strip())]
    ways = "leave the column out with `ignore`, or list it in `categorical` to encode all values"
    if dressed:
        what = f"{where} has {dressed[0]!r}, a number in another notation"
        return [Problem(what, hint=f"write digits and `decimal` alone (12000, 0.5), {ways}")]
    if rest and len(labels) > 2 * len(rest):
        what = f"{where} has numbers, and {rest[0]!r} among them"
        return [Problem(what, hint=f"leave such cells empty and set `missing`, {ways}")]
    return []


def encode_inputs(frame: pd.DataFrame, columns: TableColumns, texts: Texts) -> NDArray[Any]:
    """Returns [N, features] float64: numbers, then one-hot categories; NaN where missing."""
    import numpy as np

    parts = [as_numbers(frame[name], texts)[:, None] for name in columns.numeric]
    for name, categories in columns.categorical:
        values = frame[name].astype(object)
        labels = np.array([str(value) for value in values], dtype=object)
        encoded = (labels[:, None] == np.array(categories, dtype=object)).astype(np.float64)
        encoded[values.isna().to_numpy()] = np.nan
        parts.append(encoded)
    return np.concatenate(parts, axis=1, dtype=np.float64)


def read_matching(path: Path, columns: TableColumns) -> pd.DataFrame:
    """Reads the same columns of another table, with categories spelt as in `columns`.

    Other columns are ignored. Raises InputError for missing columns and for categories that
    `columns` does not have.
    """
    file = CSVFile(path, columns.separator, columns.decimal)
    frame = file.read(columns.text)
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
        if name not in columns.text:
            frame[name] = file.text(name).where(frame[name].notna())
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
    """Returns the category that a cell's text means. Numbers with leading zeros are text.

    Categories that pandas read as numbers or booleans are spelt as pandas prints them: "3.0",
    "True".
    """
    if text in categories:
        return text

    def meaning(spelling: str) -> float | str:
        if PADDED.match(spelling):
            return spelling
        try:
            return float(spelling.replace(decimal, "."))
        except ValueError:
            return spelling.lower() if spelling.lower() in ("true", "false") else spelling

    value = meaning(text)
    return next((category for category in categories if meaning(category) == value), None)


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return "_" not in str(value)


def as_numbers(column: pd.Series[Any], texts: Texts) -> NDArray[Any]:
    """Returns a column as [N] float64, NaN where missing.

    Raises InputError for text, infinity, and whole numbers that float64 cannot represent.
    """
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
    large = column.index[np.abs(values) >= EXACT_INTEGERS]
    if len(large):
        for row, text in texts(str(column.name)).loc[large].items():
            if _WHOLE.fullmatch(text) and int(text) != int(float(text)):
                what = f"column {column.name!r}: {text} in row {row + 1} has too many digits"
                hint = "it is rounded as a 64-bit float; leave the column out with `ignore`, "
                hint += "or list it in `categorical` if it is a label"
                raise InputError(Problem(what, hint=hint))
    return values
