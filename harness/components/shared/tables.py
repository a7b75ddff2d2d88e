"""Options of tables, tables as tensors, and the files that scikit-learn contains."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.components.base import DataInfo, Examples, Task, new_option
from harness.components.shared.images import AUTOENCODING, AutoOrAutoencoding
from harness.components.shared.splitting import SplitOptions, StratifiedSplitOptions
from harness.core.errors import DataMissing

if TYPE_CHECKING:
    from numpy.typing import NDArray


class StandardiseOptions(SplitOptions):
    """Options of any table."""

    standardise: bool = Field(
        True, description="standardise each feature with the training split's mean and deviation"
    )


class TableOptions(StandardiseOptions):
    """Options of a regression on a table."""

    task: AutoOrAutoencoding = new_option("auto", AUTOENCODING)


class ClassTableOptions(TableOptions, StratifiedSplitOptions):
    """Options of a classification of a table's rows."""


def revision(options: StandardiseOptions) -> int:
    """Features are standardised in float64 since revision 2, not as rounded to float32."""
    return 2 if options.standardise else 1


def table_examples(info: DataInfo, inputs: NDArray[Any], targets: NDArray[Any]) -> Examples:
    """Returns a table as tensors.

    inputs: [N, features]. targets: [N] class numbers, or [N] or [N, T] values; of an autoencoder,
    what the split may stratify by.
    """
    import torch

    features = torch.tensor(inputs, dtype=torch.float64)
    of_classes = info.task is Task.AUTOENCODING and targets.dtype.kind == "i"
    if info.task.is_classification or of_classes:
        return Examples(features, torch.tensor(targets, dtype=torch.int64))
    values = torch.tensor(targets, dtype=torch.float32)
    return Examples(features, values.reshape(len(features), -1))


def sklearn_files(*names: str) -> dict[str, Path]:
    """Returns the paths of data files in scikit-learn's package. Raises DataMissing if absent."""
    files = {name: sklearn_data_folder() / name for name in names}
    for path in files.values():
        if not path.is_file():
            raise DataMissing(f"{path} does not exist: this scikit-learn is installed without data")
    return files


@cache
def sklearn_data_folder() -> Path:
    """Returns the folder of data files in scikit-learn's package, without importing it."""
    spec = find_spec("sklearn")
    if spec is None or spec.origin is None:
        raise DataMissing("scikit-learn is not installed; it contains this data set")
    return Path(spec.origin).parent / "datasets" / "data"
