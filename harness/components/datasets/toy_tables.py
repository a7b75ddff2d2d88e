"""The toy tables that scikit-learn contains: breast cancer, diabetes, iris and wine.

scikit-learn is imported to load a table, but not to describe it or to compute its fingerprint.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.components.base import DataInfo, Dataset, RawData, TableColumns, Task
from harness.components.shared.data_files import combined_sha256
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import (
    ClassTableOptions,
    TableOptions,
    sklearn_files,
    table_examples,
)


@dataclass(frozen=True)
class ToyTable:
    """A table in scikit-learn. Its methods are the functions of a `Dataset`.

    loader: the function of `sklearn.datasets`, which is called with `arguments`.
    files: the files that it reads.
    """

    data_info: DataInfo
    loader: str
    files: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def info(self, options: TableOptions, root: Path) -> DataInfo:
        return self.data_info

    def fingerprint(self, options: TableOptions, root: Path) -> str:
        return combined_sha256(sklearn_files(*self.files))

    def load(self, options: TableOptions, root: Path) -> RawData:
        import sklearn.datasets

        table = getattr(sklearn.datasets, self.loader)(**self.arguments)
        return RawData(
            self.data_info,
            table_examples(self.data_info, table.data, table.target),
            split=options.split_rule(),
            standardise=options.standardise,
            columns=TableColumns(tuple(map(str, table.feature_names))),
        )


BREAST_CANCER = ToyTable(
    DataInfo(Task.BINARY, (30,), ("malignant", "benign")),
    loader="load_breast_cancer",
    files=("breast_cancer.csv",),
)
DIABETES = ToyTable(
    DataInfo(Task.REGRESSION, (10,)),
    loader="load_diabetes",
    files=("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"),
    # scikit-learn scales by default with all rows, including those of the test split.
    arguments={"scaled": False},
)
IRIS = ToyTable(
    DataInfo(Task.MULTICLASS, (4,), ("setosa", "versicolor", "virginica")),
    loader="load_iris",
    files=("iris.csv",),
)
WINE = ToyTable(
    DataInfo(Task.MULTICLASS, (13,), ("class_0", "class_1", "class_2")),
    loader="load_wine",
    files=("wine_data.csv",),
)

COMPONENTS = (
    Dataset(
        name="breast_cancer",
        description="569 breast tumours by 30 measurements of cell nuclei; in scikit-learn",
        reference="Street, Wolberg and Mangasarian, SPIE 1905 (1993)",
        options=ClassTableOptions,
        tiny=({}, {"standardise": False}),
        info=BREAST_CANCER.info,
        fingerprint=BREAST_CANCER.fingerprint,
        load=BREAST_CANCER.load,
        imports=SPLITTING,
    ),
    Dataset(
        name="diabetes",
        description="disease progression of 442 diabetes patients by 10 measurements; in "
        "scikit-learn",
        reference="Efron, Hastie, Johnstone and Tibshirani, Annals of Statistics 32 (2004)",
        options=TableOptions,
        tiny=({}, {"test_fraction": 0.5}),
        info=DIABETES.info,
        fingerprint=DIABETES.fingerprint,
        load=DIABETES.load,
        imports=SPLITTING,
    ),
    Dataset(
        name="iris",
        description="150 irises of 3 species by 4 lengths; in scikit-learn",
        reference="Fisher, Annals of Eugenics 7 (1936)",
        options=ClassTableOptions,
        tiny=({}, {"stratify": True, "split_seed": None}),
        info=IRIS.info,
        fingerprint=IRIS.fingerprint,
        load=IRIS.load,
        imports=SPLITTING,
    ),
    Dataset(
        name="wine",
        description="178 wines of 3 growers by 13 chemical measurements; in scikit-learn",
        reference="Aeberhard and Forina, UCI repository (1991), doi:10.24432/C5PC7J",
        options=ClassTableOptions,
        tiny=({}, {"test_fraction": 0.3, "split_seed": 1}),
        info=WINE.info,
        fingerprint=WINE.fingerprint,
        load=WINE.load,
        imports=SPLITTING,
    ),
)
