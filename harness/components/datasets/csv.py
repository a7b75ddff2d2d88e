"""A table of the user's own, from a CSV file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import Field

from harness.components.base import (
    DataInfo,
    Dataset,
    Imputer,
    Names,
    RawData,
    TableColumns,
    not_in_id,
)
from harness.components.shared import frames
from harness.components.shared.data_files import Version, missing, sha256
from harness.components.shared.frames import Target
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import ClassTableOptions, bundled_folder, examples
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

KEPT_TABLES: Final = 2


class CSVOptions(ClassTableOptions):
    path: str = not_in_id(
        "", "the file, absolute or below the data folder; its first line names columns"
    )
    target: str = Field("", description="the column to predict")
    numeric: Names = Field((), description="columns to read as numbers; the others by their type")
    categorical: Names = Field(
        (), description="columns of categories, each encoded as 0s and a 1; the others by type"
    )
    ignore: Names = Field((), description="columns left out")
    separator: str = Field(",", min_length=1, max_length=1, description="between columns")
    decimal: str = Field(".", min_length=1, max_length=1, description="the decimal point")
    task: Literal["auto", "classification", "regression"] = Field(
        "auto",
        description="auto: text, truth values and up to 20 different whole numbers are classes",
    )
    missing: Literal["error", "drop", "mean", "median"] = Field(
        "error",
        description="what to do about empty cells: drop their rows, or fill in the training "
        "split's mean or median (of a category: its most frequent)",
    )


@dataclass(frozen=True, slots=True)
class Table:
    """inputs: [N, features] float32, NaN where missing."""

    info: DataInfo
    columns: TableColumns
    inputs: NDArray[Any]
    target: Target


def info(options: CSVOptions, root: Path) -> DataInfo:
    return _table(options, root).info


def fingerprint(options: CSVOptions, root: Path) -> str:
    return sha256(_file(options, root))


def load(options: CSVOptions, root: Path) -> RawData:
    table = _table(options, root)
    strategy = options.missing if options.missing in ("mean", "median") else None
    imputer = Imputer(strategy, table.columns.inputs, table.columns.ranges) if strategy else None
    return RawData(
        table.info,
        examples(table.info, table.inputs, table.target.values),
        split=options.rule(),
        standardise=options.standardise,
        imputer=imputer,
        columns=replace(table.columns, separator=options.separator, decimal=options.decimal),
    )


def _file(options: CSVOptions, root: Path) -> Path:
    if not options.path:
        raise InputError("dataset csv: path is not set")
    path = root / Path(options.path).expanduser()
    if not path.is_file():
        raise missing("csv", options.path, root)
    return path


def _table(options: CSVOptions, root: Path) -> Table:
    return _read(Version.of(_file(options, root)), options)


@lru_cache(maxsize=KEPT_TABLES)
def _read(version: Version, options: CSVOptions) -> Table:
    """Raises InputError naming the file, with all that is wrong at the first step that fails.

    Where the file was asked for is left to the caller to say: only it knows the line.
    """
    path = version.path
    try:
        return _encoded(frames.read(path, options.separator, options.decimal), options)
    except InputError as error:
        named = [
            problem.what if str(path) in problem.what else f"{path}: {problem.what}"
            for problem in error.problems
        ]
        raise InputError(
            [
                Problem(f"dataset csv: {what}", hint=problem.hint)
                for what, problem in zip(named, error.problems, strict=True)
            ]
        ) from error


def _encoded(frame: pd.DataFrame, options: CSVOptions) -> Table:
    if not options.target:
        names = ", ".join(frame.columns)
        raise InputError(Problem("target is not set", hint=f"the columns are: {names}"))
    problems = frames.unknown_columns(
        frame,
        options.target,
        numeric=options.numeric,
        categorical=options.categorical,
        ignore=options.ignore,
    )
    if problems:
        raise InputError(problems)
    frame = _complete(frame.drop(columns=list(options.ignore)), options)
    target = frames.encode_target(frame[options.target], options.task)
    if options.stratify and not target.task.is_classification:
        raise InputError("stratify: a regression has no classes")
    features = frame.drop(columns=options.target)
    by_kind = frames.sort_columns(features, options.numeric, options.categorical)
    columns = frames.with_levels(features, by_kind)
    inputs = frames.encode_inputs(features, columns)
    what = DataInfo(target.task, (len(columns.inputs),), target.classes)
    return Table(what, columns, inputs, target)


def _complete(frame: pd.DataFrame, options: CSVOptions) -> pd.DataFrame:
    """The rows to use. Raises InputError where values are missing and nothing was said of it."""
    if options.missing == "drop":
        frame = frame.dropna()
        if frame.empty:
            raise InputError("missing: drop leaves no row")
        return frame
    counts = frames.missing_counts(frame)
    if options.missing != "error":
        counts = {name: count for name, count in counts.items() if name == options.target}
    if counts:
        listed = ", ".join(f"{name} ({count})" for name, count in counts.items())
        ways = "drop" if options.missing != "error" else "drop, mean or median"
        raise InputError(
            Problem(
                f"of {len(frame)} rows, values are missing in: {listed}",
                hint=f"set `missing` to {ways}, or leave columns out by `ignore`",
            )
        )
    return frame


IRISES: Final = {"path": str(bundled_folder() / "iris.csv"), "target": "virginica"}
"""A file that is always there, for the contract tests; its first line is taken for names."""

COMPONENTS = (
    Dataset(
        name="csv",
        description="a table of your own: a target column, numbers and categories",
        reference="RFC 4180; pandas.read_csv",
        options=CSVOptions,
        tiny=(
            IRISES,
            {**IRISES, "target": "150", "categorical": ["virginica"]},
            {**IRISES, "ignore": ["150"], "missing": "mean"},
        ),
        info=info,
        fingerprint=fingerprint,
        load=load,
        imports=SPLITTING,
    ),
)
