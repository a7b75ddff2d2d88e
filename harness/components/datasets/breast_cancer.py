"""Breast tumours, malignant or benign."""

from __future__ import annotations

from harness.components.base import DataInfo, Dataset, Task
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import BundledTable, ClassTableOptions

TABLE = BundledTable(
    DataInfo(Task.BINARY, (30,), ("malignant", "benign")),
    loader="load_breast_cancer",
    files=("breast_cancer.csv",),
)

COMPONENTS = (
    Dataset(
        name="breast_cancer",
        description="569 tumours by 30 measurements of cell nuclei; with scikit-learn",
        reference="Street, Wolberg and Mangasarian, SPIE 1905 (1993)",
        options=ClassTableOptions,
        tiny=({}, {"standardise": False}),
        info=TABLE.info,
        fingerprint=TABLE.fingerprint,
        load=TABLE.load,
        imports=SPLITTING,
    ),
)
