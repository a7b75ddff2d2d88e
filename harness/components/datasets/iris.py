"""Fisher's irises."""

from __future__ import annotations

from harness.components.base import DataInfo, Dataset, Task
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import BundledTable, ClassTableOptions

TABLE = BundledTable(
    DataInfo(Task.MULTICLASS, (4,), ("setosa", "versicolor", "virginica")),
    loader="load_iris",
    files=("iris.csv",),
)

COMPONENTS = (
    Dataset(
        name="iris",
        description="150 irises of 3 species by 4 lengths; with scikit-learn",
        reference="Fisher, Annals of Eugenics 7 (1936)",
        options=ClassTableOptions,
        tiny=({}, {"stratify": True, "split_seed": None}),
        info=TABLE.info,
        fingerprint=TABLE.fingerprint,
        load=TABLE.load,
        imports=SPLITTING,
    ),
)
