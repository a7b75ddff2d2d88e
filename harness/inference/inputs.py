"""Reads a user's own images and tables as a model's inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.components.base import RawData, TableColumns
from harness.components.shared import dataframes
from harness.components.shared.image_files import read_pixels
from harness.core.errors import InputError, Problem, did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class FileInputs:
    """Inputs that were read from files.

    names: of each example, "photo.png" or "rows.csv:2" (its line).
    inputs: [N, …], as the data set stores its own.
    """

    names: tuple[str, ...]
    inputs: Tensor


def read_inputs(paths: Sequence[Path], raw: RawData) -> FileInputs:
    """Reads images where the model takes images, else tables of its features.

    Raises InputError with every file that cannot be read.
    """
    import torch

    if not raw.info.is_image and (len(raw.info.shape) > 1 or raw.info.tokens):
        kind = "token numbers" if raw.info.tokens else "sequences"
        what = f"no file can be read: the model's inputs are {kind}, not images or a table"
        raise InputError(Problem(what, hint="without files, the test split is predicted"))
    problems: list[Problem] = []
    files: list[FileInputs] = []
    for path in paths:
        try:
            files.append(_read_image(path, raw) if raw.info.is_image else _read_table(path, raw))
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(problems)
    names = tuple(name for file in files for name in file.names)
    return FileInputs(names, torch.cat([file.inputs for file in files]))


def _read_image(path: Path, raw: RawData) -> FileInputs:
    """Reads an image in the data set's channels and size. Other proportions are cropped."""
    import torch

    channels, height, width = raw.train.inputs[0].shape
    try:
        pixels = read_pixels(path, channels, (width, height))
    except InputError as error:
        reason = str(error).removeprefix(f"{path} cannot be read: ")
        what = f"is no image that can be read: {reason}" if path.exists() else "does not exist"
        raise InputError(Problem(what, where=str(path))) from error
    # White is 255 in a file; in the data set it is what its preparation says.
    white = raw.prepare.maximum if raw.prepare is not None else 255.0
    return FileInputs((path.name,), torch.from_numpy(pixels).float()[None] * (white / 255))


def _read_table(path: Path, raw: RawData) -> FileInputs:
    """Reads a table's features [N, F], with NaN for empty cells.

    Raises InputError for what the model cannot read. Empty cells are an error where the data set
    does not say how to fill them.
    """
    import torch

    if path.suffix.lower() != ".csv":
        raise InputError(Problem("must be a .csv table: the model takes features", str(path)))
    if not path.is_file():
        raise InputError(Problem("does not exist", where=str(path)))
    columns = raw.columns if raw.columns is not None and raw.columns.header else None
    if columns is not None:
        frame = dataframes.read_matching(path, columns)
        lines = _row_lines(path, len(frame))
    else:
        frame, lines = _read_numbers(path, raw.info.features, raw.columns)
    empty = frame.isna().to_numpy()
    if empty.any() and raw.imputer is None:
        row, column = (int(indices[0]) for indices in empty.nonzero())
        where = f"{path}:{lines[row]}"
        raise InputError(Problem(f"has an empty cell in column {frame.columns[column]!r}", where))
    try:
        # Copied, as torch takes no columns in reverse order.
        if columns is not None:
            file = dataframes.CSVFile(path, columns.separator, columns.decimal)
            values = dataframes.encode_inputs(frame, columns, file.text)
        else:
            values = frame.to_numpy().copy()
    except InputError as error:
        raise InputError([Problem(p.what, str(path), p.hint) for p in error.problems]) from error
    names = tuple(f"{path.name}:{line}" for line in lines)
    return FileInputs(names, torch.tensor(values, dtype=torch.float64))


def _row_lines(path: Path, n: int) -> Sequence[int]:
    """Returns the lines of n rows below a header, blank lines skipped.

    Rows that take several lines are counted as one line each.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        filled = [number for number, text in enumerate(file, start=1) if text.strip()][1:]
    return filled if len(filled) == n else range(2, n + 2)


def _read_numbers(
    path: Path, features: int, columns: TableColumns | None
) -> tuple[pd.DataFrame, Sequence[int]]:
    """Reads a table of numbers, and returns it with each row's line.

    The names in the first line identify the columns, where there are names and `columns` says what
    they should be, else by position.
    """
    import pandas as pd

    try:
        cells = pd.read_csv(path, header=None, dtype=str, skip_blank_lines=False)
    except (OSError, ValueError) as error:
        raise InputError(Problem(f"is no CSV table: {error}", where=str(path))) from error
    numbers = cells.apply(pd.to_numeric, errors="coerce")
    wrong = numbers.isna() & cells.notna()
    skipped = int(len(cells) > 1 and wrong.iloc[0].any())
    if skipped and columns is not None:
        positions = _positions(path, list(cells.iloc[0]), columns)
    elif cells.shape[1] == features:
        positions = list(range(features))
    else:
        problem = f"has {cells.shape[1]} columns; the model takes {features} features"
        raise InputError(Problem(problem, str(path), hint="leave out the target"))
    wrong = wrong.iloc[skipped:, positions]
    if wrong.to_numpy().any():
        row, column = (int(indices[0]) for indices in wrong.to_numpy().nonzero())
        cell = cells.iloc[row + skipped, positions[column]]
        where = f"{path}:{row + skipped + 1}"
        raise InputError(Problem(f"column {positions[column] + 1} is no number: {cell!r}", where))
    # Python's own conversion is exact, whatever the version of pandas.
    frame = cells.iloc[skipped:, positions].astype(object).astype(float)
    frame.columns = columns.names if columns is not None else [p + 1 for p in positions]
    return frame, range(skipped + 1, len(cells) + 1)


def _positions(path: Path, header: Sequence[str], columns: TableColumns) -> list[int]:
    """Returns the position of each of the data set's columns in a file with this first line."""
    absent = [name for name in columns.names if name not in header]
    if len(absent) == len(columns.names):
        hint = f"they are {', '.join(absent)}; without a line of names, columns go in that order"
        raise InputError(Problem("its first line names none of the features", str(path), hint))
    if absent:
        names = list(map(str, header))
        raise InputError(
            [Problem(f"has no column {n!r}", str(path), did_you_mean(n, names)) for n in absent]
        )
    return [header.index(name) for name in columns.names]
