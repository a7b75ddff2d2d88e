"""The progress of diabetes after a year."""

from __future__ import annotations

from harness.components.base import DataInfo, Dataset, Task
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import BundledTable, TableOptions

TABLE = BundledTable(
    DataInfo(Task.REGRESSION, (10,)),
    loader="load_diabetes",
    files=("diabetes_data_raw.csv.gz", "diabetes_target.csv.gz"),
    # Its scaled form is scaled by all rows, the test split's among them.
    arguments={"scaled": False},
)

COMPONENTS = (
    Dataset(
        name="diabetes",
        description="a year of 442 diabetes patients, by 10 measurements; with scikit-learn",
        reference="Efron, Hastie, Johnstone and Tibshirani, Annals of Statistics 32 (2004)",
        options=TableOptions,
        tiny=({}, {"test_fraction": 0.5}),
        info=TABLE.info,
        fingerprint=TABLE.fingerprint,
        load=TABLE.load,
        imports=SPLITTING,
    ),
)
