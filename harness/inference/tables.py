"""Tables of the user's own as a model's inputs: numbers in the order the model takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.components.base import RawData, TableColumns
from harness.components.shared import frames
from harness.core.errors import InputError, Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray


def rows(path: Path, raw: RawData) -> tuple[Sequence[int], NDArray[Any]]:
    """The line of each row in the file, and the inputs [N, features], NaN to be filled in.

    Raises InputError for what the model cannot read; gaps are left where the data set says how
    they are filled.
    """
    columns = raw.columns
    if columns is not None and columns.header:
        frame = frames.read_alike(path, columns)
        lines = _lines(path, len(frame))
    else:
        frame, lines = _numbers(path, raw.info.features, columns)
    gaps = frame.isna().to_numpy()
    if gaps.any() and raw.imputer is None:
        row, column = (int(places[0]) for places in gaps.nonzero())
        where = f"{path}:{lines[row]}"
        raise InputError(Problem(f"has an empty cell in column {frame.columns[column]!r}", where))
    if columns is None or not columns.header:
        return lines, frame.to_numpy().copy()  # torch takes no columns in reverse
    try:
        return lines, frames.encode_inputs(frame, columns)
    except InputError as error:
        raise InputError([Problem(p.what, str(path), p.hint) for p in error.problems]) from error


def _lines(path: Path, n: int) -> Sequence[int]:
    """The lines of n rows under a line of names, blank ones passed over. Rows that run over
    several lines are numbered as if each took one."""
    with path.open(encoding="utf-8", errors="replace") as file:
        filled = [number for number, text in enumerate(file, start=1) if text.strip()][1:]
    return filled if len(filled) == n else range(2, n + 2)


def _numbers(
    path: Path, features: int, columns: TableColumns | None
) -> tuple[pd.DataFrame, Sequence[int]]:
    """A table of numbers and the line of each row: by the names of a first line where `columns`
    says what they should be, else by position."""
    import pandas as pd

    try:
        cells = pd.read_csv(path, header=None, dtype=str, skip_blank_lines=False)
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"is no CSV table: {error}", where=str(path))) from error
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna() & cells.notna()
    skipped = int(len(cells) > 1 and wrong.iloc[0].any())
    if skipped and columns is not None:
        places = _places(path, list(cells.iloc[0]), columns)
    elif cells.shape[1] == features:
        places = list(range(features))
    else:
        told = f"has {cells.shape[1]} columns; the model takes {features} features"
        raise InputError(Problem(told, str(path), hint="leave out the target"))
    wrong = wrong.iloc[skipped:, places]
    if wrong.to_numpy().any():
        row, column = (int(found[0]) for found in wrong.to_numpy().nonzero())
        cell = cells.iloc[row + skipped, places[column]]
        where = f"{path}:{row + skipped + 1}"
        raise InputError(Problem(f"column {places[column] + 1} is no number: {cell!r}", where))
    chosen = numbers.iloc[skipped:, places]
    chosen.columns = columns.names if columns is not None else [place + 1 for place in places]
    return chosen, range(skipped + 1, len(cells) + 1)


def _places(path: Path, header: Sequence[str], columns: TableColumns) -> list[int]:
    """Where each of the data set's columns stands in a file with this first line."""
    absent = [name for name in columns.names if name not in header]
    if len(absent) == len(columns.names):
        hint = f"they are {', '.join(absent)}; without a line of names, columns go in that order"
        told = "its first line has none of the names of the model's features"
        raise InputError(Problem(told, str(path), hint))
    if absent:
        raise InputError(
            [
                Problem(f"has no column {name!r}", str(path), did_you_mean(name, map(str, header)))
                for name in absent
            ]
        )
    return [header.index(name) for name in columns.names]
