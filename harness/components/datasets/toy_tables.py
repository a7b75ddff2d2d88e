"""The toy tables that scikit-learn contains: breast cancer, diabetes, iris and wine.

scikit-learn is imported to load a table, but not to describe it or to compute its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.components.base import DataInfo, Dataset, RawData, TableColumns, Task
from harness.components.shared.data_files import combined_sha256
from harness.components.shared.splitting import SPLITTING, training_size
from harness.components.shared.tables import (
    ClassTableOptions,
    TableOptions,
    revision,
    sklearn_files,
    table_examples,
)


def toy_table(
    data_info: DataInfo, counts: Mapping[str, int], files: tuple[str, ...], **fields: Any
) -> Dataset:
    """Returns the data set of a table in scikit-learn.

    counts: the number of examples by class.
    files: those that `sklearn.datasets.load_<name>` reads. fields: the other fields of `Dataset`.
    """

    def info(options: TableOptions, root: Path) -> DataInfo:
        size = training_size(options.split_rule(), counts)
        return replace(data_info, examples=size).for_task(options.task)

    def fingerprint(options: TableOptions, root: Path) -> str:
        return combined_sha256(sklearn_files(*files))

    def load(options: TableOptions, root: Path) -> RawData:
        import sklearn.datasets

        # By default, load_diabetes scales with all rows, including those of the test split.
        arguments = {"scaled": False} if fields["name"] == "diabetes" else {}
        table = getattr(sklearn.datasets, f"load_{fields['name']}")(**arguments)
        return RawData(
            info(options, root),
            table_examples(data_info, table.data, table.target),
            split=options.split_rule(),
            standardise=options.standardise,
            columns=TableColumns(tuple(map(str, table.feature_names))),
        )

    return Dataset(
        info=info,
        fingerprint=fingerprint,
        load=load,
        imports=SPLITTING,
        revision=revision,
        **fields,
    )


COMPONENTS = (
    toy_table(
        DataInfo(Task.BINARY, (30,), ("malignant", "benign")),
        counts={"malignant": 212, "benign": 357},
        files=("breast_cancer.csv",),
        name="breast_cancer",
        description="569 breast tumours by 30 measurements of cell nuclei; in scikit-learn",
        reference="Street, Wolberg and Mangasarian, SPIE 1905 (1993)",
        options=ClassTableOptions,
        tiny=({}, {"standardise": False}),
    ),
    toy_table(
        DataInfo(Task.REGRESSION, (10,)),
        counts={"": 442},
        files=("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"),
        name="diabetes",
        description="a year of 442 diabetes patients by 10 measurements; in scikit-learn",
        reference="Efron, Hastie, Johnstone and Tibshirani, Annals of Statistics 32 (2004)",
        options=TableOptions,
        tiny=({}, {"test_fraction": 0.5}),
    ),
    toy_table(
        DataInfo(Task.MULTICLASS, (4,), ("setosa", "versicolor", "virginica")),
        counts={"setosa": 50, "versicolor": 50, "virginica": 50},
        files=("iris.csv",),
        name="iris",
        description="150 irises of 3 species by 4 lengths; in scikit-learn",
        reference="Fisher, Annals of Eugenics 7 (1936)",
        options=ClassTableOptions,
        tiny=({}, {"stratify": True, "split_seed": None}),
    ),
    toy_table(
        DataInfo(Task.MULTICLASS, (13,), ("class_0", "class_1", "class_2")),
        counts={"class_0": 59, "class_1": 71, "class_2": 48},
        files=("wine_data.csv",),
        name="wine",
        description="178 wines of 3 growers by 13 chemical measurements; in scikit-learn",
        reference="Aeberhard and Forina, UCI repository (1991), doi:10.24432/C5PC7J",
        options=ClassTableOptions,
        tiny=({}, {"test_fraction": 0.3, "split_seed": 1}),
    ),
)
