"""House prices in California, from scikit-learn's cache file, which is a pickle.

The file is never unpickled: its numbers lie in it as they are in memory, so they are taken out as
bytes and compared with the checksum of the real ones. That checksum is also the same whichever
versions of joblib and zlib wrote the file, where the file's own is not.
"""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from harness.components.base import DataInfo, Dataset, RawData, TableColumns, Task
from harness.components.shared.data_files import Version, fetch, missing
from harness.components.shared.splitting import SPLITTING
from harness.components.shared.tables import TableOptions, examples
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
"""SHA-256 of the table's 8-byte little-endian floats, one column after another: price, income, age,
rooms, bedrooms, population, households, latitude, longitude."""


class CaliforniaHousingOptions(TableOptions):
    download: bool = Field(
        True,
        description="fetch the file where it is absent",
        json_schema_extra={"not_in_id": True},  # the content is the same wherever it comes from
    )


def info(options: CaliforniaHousingOptions, root: Path) -> DataInfo:
    return DataInfo(Task.REGRESSION, (COLUMNS - 1,))


def fingerprint(options: CaliforniaHousingOptions, root: Path) -> str:
    return hashlib.sha256(_content(_file(options, root))).hexdigest()


def load(options: CaliforniaHousingOptions, root: Path) -> RawData:
    inputs, price = _table(_content(_file(options, root)))
    what = info(options, root)
    return RawData(
        what,
        examples(what, inputs, price),
        split=options.rule(),
        standardise=options.standardise,
        columns=TableColumns(FEATURES),
    )


def _file(options: CaliforniaHousingOptions, root: Path) -> Path:
    if not (root / FILE).is_file():
        if not options.download:
            raise missing("california_housing", FILE, root)
        fetch("california_housing", [FILE], root, _download)
    return root / FILE


def _download(folder: Path) -> None:
    from sklearn.datasets import fetch_california_housing

    fetch_california_housing(data_home=folder / "sklearn")


def _content(path: Path) -> bytes:
    return _checked(Version.of(path))


@lru_cache(maxsize=1)
def _checked(version: Version) -> bytes:
    """The table's bytes. Raises InputError where they are not those of the real data set."""
    path, length = version.path, ROWS * COLUMNS * 8
    try:
        # The pickle's last byte is its STOP, and the array's bytes lie just before.
        content = zlib.decompress(path.read_bytes())[-1 - length : -1]
    except zlib.error as error:
        raise InputError(f"{path} cannot be unpacked ({error}): delete it and run again") from error
    if hashlib.sha256(content).hexdigest() != CHECKSUM:
        raise InputError(f"{path} does not hold California housing: delete it and run again")
    return content


def _table(content: bytes) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs [N, 8] and prices [N] in 100,000 dollars, derived as scikit-learn derives them."""
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
    ),
)
