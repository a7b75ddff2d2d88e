"""A table of your own, from a CSV file."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    Task,
    file_option,
    new_option,
)
from harness.components.shared import dataframes, tables
from harness.components.shared.column_statistics import StandardScaler, to_float32
from harness.components.shared.data_files import cached_by_file, missing_file, sha256
from harness.components.shared.dataframes import CSVFile
from harness.components.shared.splitting import SPLITTING, StratifiedSplitOptions, training_size
from harness.components.shared.tables import (
    StandardiseOptions,
    sklearn_data_folder,
    table_examples,
)
from harness.components.shared.targets import Targets, encode_targets, read_targets
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

CSVTask = Literal[
    "auto",
    "classification",
    "ordinal",
    "multilabel",
    "regression",
    "count",
    "autoencoding",
]


class CSVOptions(StandardiseOptions, StratifiedSplitOptions):
    path: str = file_option(
        "",
        "the file, absolute, beside the experiment file, or below the data folder; its first line "
        "names the columns",
    )
    target: str | Names = Field(
        "",
        description="the column to predict, or a list: of numbers, or of 0 and 1 for labels",
    )
    numeric: Names = Field((), description="columns to read as numbers; the others by their type")
    categorical: Names = Field(
        (), description="columns of categories, one-hot encoded; the others by their type"
    )
    ignore: Names = Field((), description="columns to leave out")
    separator: str = Field(",", min_length=1, max_length=1, description="between columns")
    decimal: str = Field(".", min_length=1, max_length=1, description="the decimal point")
    task: CSVTask = Field(
        "auto",
        description="auto: text, booleans and up to 20 distinct whole numbers are classes, and "
        "several targets of 0 and 1 are labels. autoencoding: to reconstruct the inputs",
    )
    order: Names = new_option(
        (), "the classes of task: ordinal, from the lowest to the highest; by default as numbers"
    )
    missing: Literal["error", "drop", "mean", "median"] = Field(
        "error",
        description="missing values: drop their rows, or fill them with the training split's mean "
        "or median (categories: with the most frequent)",
    )

    def targets(self) -> tuple[str, ...]:
        """Returns the columns to predict."""
        if isinstance(self.target, str):
            return (self.target,) if self.target else ()
        return self.target


@dataclass(frozen=True, slots=True)
class EncodedTable:
    """inputs: [N, features] float64, NaN where missing. targets: [N] int64 or [N, T] float64."""

    info: DataInfo
    columns: TableColumns
    inputs: NDArray[Any]
    targets: NDArray[Any]


def revision(options: CSVOptions) -> int:
    """Since revision 2, labels are read as they are written, and gaps are filled in float64."""
    as_text = options.categorical or options.task == "classification"
    filled = options.missing in ("mean", "median")
    return 2 if as_text or filled else tables.revision(options)


def info(options: CSVOptions, root: Path) -> DataInfo:
    return _table(options, root).info


def fingerprint(options: CSVOptions, root: Path) -> str:
    return sha256(_file(options, root))


def load(options: CSVOptions, root: Path) -> RawData:
    table = _table(options, root)
    strategy = options.missing if options.missing in ("mean", "median") else None
    columns = table.columns
    return RawData(
        table.info,
        table_examples(table.info, table.inputs, table.targets),
        split=options.split_rule(),
        standardise=options.standardise,
        imputer=Imputer(strategy, columns.inputs, columns.ranges) if strategy else None,
        columns=replace(columns, separator=options.separator, decimal=options.decimal),
    )


def _file(options: CSVOptions, root: Path) -> Path:
    if not options.path:
        raise InputError("dataset csv: path is not set")
    path = root / Path(options.path).expanduser()
    if not path.is_file():
        raise missing_file("csv", options.path, root)
    return path


def _table(options: CSVOptions, root: Path) -> EncodedTable:
    return _read(_file(options, root), options)


@cached_by_file(maxsize=2)
def _read(path: Path, options: CSVOptions) -> EncodedTable:
    """Raises InputError that names the file, with all problems of the first step that fails.

    The caller adds the line of the experiment file.
    """
    file = CSVFile(path, options.separator, options.decimal)
    try:
        return _encode(file, options)
    except InputError as error:
        problems = []
        separator = file.likely_separator()
        for problem in error.problems:
            what = problem.what if str(path) in problem.what else f"{path}: {problem.what}"
            hint = f"set separator: {separator!r}" if separator else problem.hint
            problems.append(Problem(f"dataset csv: {what}", hint=hint))
        raise InputError(problems) from error


def _encode(file: CSVFile, options: CSVOptions) -> EncodedTable:
    import numpy as np

    frame = file.read(options.categorical)
    names = options.targets()
    if not names and options.task != "autoencoding":
        listed = ", ".join(frame.columns)
        raise InputError(Problem("target is not set", hint=f"the columns are: {listed}"))
    problems = dataframes.check_columns(
        frame,
        names,
        numeric=options.numeric,
        categorical=options.categorical,
        ignore=options.ignore,
    )
    if problems:
        raise InputError(problems)
    read_targets(frame, names, options.task, file.text)
    frame = _without_missing(frame.drop(columns=list(options.ignore)), options)
    targets = _targets(frame, options, file)
    features = frame.drop(columns=list(names))
    columns = dataframes.describe_columns(features, options.numeric, options.categorical)
    inputs = dataframes.encode_inputs(features, columns, file.text)
    if not options.standardise and not np.isnan(inputs).any():
        deviation = StandardScaler.fit(inputs).original_deviation
        to_float32(inputs, columns.inputs, deviation)
    counts = {"": len(inputs)}
    if targets.task.is_classification:
        counts = dict(zip(targets.class_names, np.bincount(targets.values).tolist(), strict=False))
    examples = training_size(options.split_rule(), counts)
    data_info = DataInfo(
        targets.task,
        (len(columns.inputs),),
        targets.class_names,
        targets=1 if targets.values.ndim == 1 else targets.values.shape[1],
        examples=examples,
    ).for_task(options.task)
    return EncodedTable(data_info, columns, inputs, targets.values)


def _targets(frame: pd.DataFrame, options: CSVOptions, file: CSVFile) -> Targets:
    """Returns the targets; an autoencoder's are its inputs, so that its columns serve to stratify
    alone."""
    import numpy as np

    task: str = options.task
    if task == "autoencoding":
        if not options.stratify or not options.targets():
            return Targets(Task.REGRESSION, np.zeros((len(frame), 1)))
        task = "classification"
    targets = encode_targets(frame, options.targets(), task, options.order, file.text)
    if options.stratify and not targets.task.is_classification:
        several = targets.task is Task.MULTILABEL
        of = "an example has several labels" if several else f"a {targets.task} has no classes"
        raise InputError(f"stratify: {of}")
    return targets


def _without_missing(frame: pd.DataFrame, options: CSVOptions) -> pd.DataFrame:
    """Returns the rows to use. Raises InputError for missing values that no option covers."""
    if options.missing == "drop":
        frame = frame.dropna()
        if frame.empty:
            raise InputError("missing: drop leaves no row")
        return frame
    # The imputer fills inputs, but not the target.
    names = frame.columns if options.missing == "error" else list(options.targets())
    counts = frame[names].isna().sum()
    if counts.any():
        columns = ", ".join(f"{name} ({count})" for name, count in counts.items() if count)
        ways = "drop" if options.missing != "error" else "drop, mean or median"
        raise InputError(
            Problem(
                f"of {len(frame)} rows, values are missing in: {columns}",
                hint=f"set `missing` to {ways}, or leave columns out with `ignore`; where NA or "
                "None is a label, list the column in `categorical`, or set task: classification",
            )
        )
    return frame


IRIS: Final = {"path": str(sklearn_data_folder() / "iris.csv"), "target": "virginica"}
"""A file that always exists, for the contract tests. Its first line is read as column names."""

COMPONENTS = (
    Dataset(
        name="csv",
        description="a table of your own: a target column, numbers and categories",
        reference="RFC 4180; pandas.read_csv",
        options=CSVOptions,
        tiny=(
            IRIS,
            {**IRIS, "target": "150", "categorical": ["virginica"]},
            {**IRIS, "ignore": ["150"], "missing": "mean"},
            {**IRIS, "task": "ordinal"},
            {**IRIS, "target": ["setosa", "4"]},
            {**IRIS, "task": "autoencoding", "stratify": True},
        ),
        info=info,
        fingerprint=fingerprint,
        load=load,
        revision=revision,
        imports=SPLITTING,
    ),
)
