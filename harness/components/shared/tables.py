"""Tables: their options, and the ones that come with scikit-learn.

scikit-learn is imported to read a table, never to describe or fingerprint one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.components.base import DataInfo, Examples, RawData, TableColumns
from harness.components.shared.data_files import fingerprint
from harness.components.shared.splitting import SplitOptions, StratifiedSplitOptions
from harness.core.errors import DataMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray


class TableOptions(SplitOptions):
    """Options of a table to regress on."""

    standardise: bool = Field(
        True, description="scale each feature by the training split's mean and deviation"
    )


class ClassTableOptions(TableOptions, StratifiedSplitOptions):
    """Options of a table to classify."""


def examples(info: DataInfo, inputs: NDArray[Any], targets: NDArray[Any]) -> Examples:
    """Rows as tensors. inputs: [N, features]; targets: [N] classes, or [N] or [N, T] values."""
    import torch

    table = torch.tensor(inputs, dtype=torch.float32)
    if info.task.is_classification:
        return Examples(table, torch.tensor(targets, dtype=torch.int64))
    return Examples(table, torch.tensor(targets, dtype=torch.float32).reshape(len(table), -1))


def bundled(*names: str) -> dict[str, Path]:
    """The files of these names among the data that scikit-learn's package holds."""
    folder = bundled_folder()
    files = {name: folder / name for name in names}
    for path in files.values():
        if not path.is_file():
            raise DataMissing(f"{path} does not exist: this scikit-learn comes without its data")
    return files


@cache
def bundled_folder() -> Path:
    """Where the data files lie in scikit-learn's package, which is not imported for it."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataMissing("scikit-learn is not installed, and this data set comes with it")
    return Path(spec.origin).parent / "datasets" / "data"


@dataclass(frozen=True)
class BundledTable:
    """A table that comes with scikit-learn; its methods are what a `Dataset` record wants.

    loader: function of `sklearn.datasets`, called with `arguments`. files: what it reads.
    """

    what: DataInfo
    loader: str
    files: tuple[str, ...]
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def info(self, options: TableOptions, root: Path) -> DataInfo:
        return self.what

    def fingerprint(self, options: TableOptions, root: Path) -> str:
        return fingerprint(bundled(*self.files))

    def load(self, options: TableOptions, root: Path) -> RawData:
        import sklearn.datasets

        table = getattr(sklearn.datasets, self.loader)(**self.arguments)
        return RawData(
            self.what,
            examples(self.what, table.data, table.target),
            split=options.rule(),
            standardise=options.standardise,
            columns=TableColumns(tuple(map(str, table.feature_names))),
        )
