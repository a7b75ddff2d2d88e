"""House prices in California, from scikit-learn's cache file, which is a pickle.

The file is never unpickled. It contains the numbers as they are in memory, so their bytes are
extracted and compared with the checksum of the real ones. Unlike the file's own checksum, this one
does not depend on the versions of joblib and zlib that wrote the file.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import DataInfo, Dataset, RawData, TableColumns, Task, not_in_id
from harness.components.shared.data_files import cached_by_file, download_missing
from harness.components.shared.splitting import SPLITTING, training_size
from harness.components.shared.tables import TableOptions, revision, table_examples
from harness.core.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

FILE: Final = "sklearn/cal_housing_py3.pkz"
FEATURES: Final = (
    "MedInc",
    "HouseAge",
    "AveRooms",
    "AveBedrms",
    "Population",
    "AveOccup",
    "Latitude",
    "Longitude",
)
"""scikit-learn's names."""
ROWS: Final = 20640
COLUMNS: Final = 9
CHECKSUM: Final = "5a6e1850914c2dc94eba36c5f025d01a90c49c13269281ea222a3c38a957ab60"
"""SHA-256 of the table's 8-byte little-endian floats, column by column: price, income, age, rooms,
bedrooms, population, households, latitude, longitude."""


class CaliforniaHousingOptions(TableOptions):
    download: bool = not_in_id(True, "download the file if it is missing")


def info(options: CaliforniaHousingOptions, root: Path) -> DataInfo:
    examples = training_size(options.split_rule(), {"": ROWS})
    described = DataInfo(Task.REGRESSION, (COLUMNS - 1,), examples=examples)
    return described.for_task(options.task)


def fingerprint(options: CaliforniaHousingOptions, root: Path) -> str:
    return hashlib.sha256(_content(options, root)).hexdigest()


def load(options: CaliforniaHousingOptions, root: Path) -> RawData:
    inputs, price = _table(_content(options, root))
    data_info = info(options, root)
    return RawData(
        data_info,
        table_examples(data_info, inputs, price),
        split=options.split_rule(),
        standardise=options.standardise,
        columns=TableColumns(FEATURES),
    )


def _download(folder: Path) -> None:
    from sklearn.datasets import fetch_california_housing

    fetch_california_housing(data_home=folder / "sklearn")


def _content(options: CaliforniaHousingOptions, root: Path) -> bytes:
    download_missing("california_housing", [FILE], root, _download, options.download)
    return _verified(root / FILE)


@cached_by_file(maxsize=1)
def _verified(path: Path) -> bytes:
    """Returns the table's bytes. Raises InputError if they are not those of the real data set."""
    length = ROWS * COLUMNS * 8
    try:
        # The pickle ends with the array's bytes and a STOP byte.
        content = zlib.decompress(path.read_bytes())[-1 - length : -1]
    except zlib.error as error:
        raise InputError(
            f"{path} cannot be decompressed ({error}): delete it and run again"
        ) from error
    if hashlib.sha256(content).hexdigest() != CHECKSUM:
        raise InputError(f"{path} does not hold California housing: delete it and run again")
    return content


def _table(content: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Returns inputs [N, 8] and prices [N] in 100,000 dollars, computed as in scikit-learn."""
    import numpy as np

    columns = np.frombuffer(content, dtype="<f8").reshape(COLUMNS, ROWS)
    price, income, age, rooms, bedrooms, population, households, latitude, longitude = columns
    inputs = (
        income,
        age,
        rooms / households,
        bedrooms / households,
        population,
        population / households,
        latitude,
        longitude,
    )
    return np.stack(inputs, axis=1), price / 100_000


COMPONENTS = (
    Dataset(
        name="california_housing",
        description="median house prices of 20,640 districts by 8 measurements",
        reference="Pace and Barry, Statistics and Probability Letters 33 (1997)",
        options=CaliforniaHousingOptions,
        tiny=({"download": False}, {"download": False, "standardise": False}),
        info=info,
        fingerprint=fingerprint,
        load=load,
        imports=SPLITTING,
        revision=revision,
    ),
)
