"""Wines of three growers."""

from __future__ import annotations

from harness.components.base import DataInfo, Dataset, Task
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import BundledTable, ClassTableOptions

TABLE = BundledTable(
    DataInfo(Task.MULTICLASS, (13,), ("class_0", "class_1", "class_2")),
    loader="load_wine",
    files=("wine_data.csv",),
)

COMPONENTS = (
    Dataset(
        name="wine",
        description="178 wines of 3 growers by 13 chemical measurements; with scikit-learn",
        reference="Aeberhard and Forina, UCI repository (1991), doi:10.24432/C5PC7J",
        options=ClassTableOptions,
        tiny=({}, {"test_fraction": 0.3, "split_seed": 1}),
        info=TABLE.info,
        fingerprint=TABLE.fingerprint,
        load=TABLE.load,
        imports=SPLITTING,
    ),
)
