"""Statistics of a table's columns, exact to the last digits of float64 whatever the columns' units.

A sum or a square of very large or very small numbers overflows or underflows, and one of numbers
with a large common offset loses their digits. So the statistics are computed in other units.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import Imputer
from harness.core.errors import InputError, Problem
from harness.core.text import format_value

if TYPE_CHECKING:
    from numpy.typing import NDArray

SQUARES: Final = (1e-16, 1e19)
"""Float32 has the squares of numbers between these, and of their thousandth parts."""
EXACT_INTEGERS: Final = 2**53
"""Some larger whole numbers have no float64."""
LARGEST_ROUNDING: Final = 1e-3
"""The largest error of rounding to float32 that is accepted, in standard deviations of a column."""


@dataclass(frozen=True, slots=True)
class ColumnUnits:
    """Units in which a column's known values are below 1, and the first of them is then moved to 0.

    A power of two changes no digit. exponent, origin: [features]; NaN where no value is known.
    """

    exponent: NDArray[Any]
    origin: NDArray[Any]

    @classmethod
    def of(cls, values: NDArray[Any]) -> ColumnUnits:
        """values: [N, features] float64, NaN where missing."""
        import numpy as np

        largest = np.fmax.reduce(np.abs(values), axis=0, initial=0.0)
        exponent = np.frexp(largest)[1]
        first = np.isnan(values).argmin(axis=0)
        known = values[first, np.arange(values.shape[1])]
        return cls(exponent, np.ldexp(known, -exponent))

    def convert(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        with np.errstate(over="ignore"):  # Values of other splits may be beyond all bounds.
            converted: NDArray[Any] = np.ldexp(values, -self.exponent) - self.origin
        return converted

    def convert_back(self, values: NDArray[Any]) -> NDArray[Any]:
        import numpy as np

        with np.errstate(over="ignore"):
            original: NDArray[Any] = np.ldexp(values + self.origin, self.exponent)
        return original


@dataclass(frozen=True, slots=True)
class StandardScaler:
    """scikit-learn's StandardScaler: (x − mean) / deviation, for each feature.

    units: those of mean and deviation. mean, deviation: [features] float64; the population's
    deviation, 0 for a constant feature, of which only the mean is subtracted.
    """

    units: ColumnUnits
    mean: NDArray[Any]
    deviation: NDArray[Any]

    @classmethod
    def fit(cls, train: NDArray[Any]) -> StandardScaler:
        """train: [N, features] float64, without missing values."""
        import numpy as np

        units = ColumnUnits.of(train)
        converted = units.convert(train)
        mean = converted.mean(axis=0)
        mean += (converted - mean).mean(axis=0)
        converted -= mean
        return cls(units, mean, np.sqrt(np.square(converted, out=converted).mean(axis=0)))

    def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Returns [N, features] float64."""
        import numpy as np

        with np.errstate(over="ignore"):
            one = np.ldexp(1.0, -self.units.exponent)
            scale = np.where(self.deviation > 0, self.deviation, one)
            scaled: NDArray[Any] = (self.units.convert(inputs) - self.mean) / scale
        return scaled

    @property
    def original_deviation(self) -> NDArray[Any]:
        """The deviation in the units of the table."""
        import numpy as np

        with np.errstate(over="ignore"):
            original: NDArray[Any] = np.ldexp(self.deviation, self.units.exponent)
        return original


def fill_values(imputer: Imputer, train: NDArray[Any]) -> NDArray[Any]:
    """Returns the value that fills each column's gaps, [features], from `train`, [N, features].

    Raises InputError if a column has no known value.
    """
    import numpy as np

    unknown = np.isnan(train).all(axis=0)
    if unknown.any():
        names = ", ".join(imputer.columns[i] for i in unknown.nonzero()[0])
        raise InputError(f"no value to impute from in the training split: {names}")
    units = ColumnUnits.of(train)
    converted = units.convert(train)
    if imputer.strategy == "mean":
        mean = np.nanmean(converted, axis=0)
        fill = mean + np.nanmean(converted - mean, axis=0)
    else:
        fill = np.nanmedian(converted, axis=0)
    fill = units.convert_back(fill)
    for start, stop in imputer.categories:
        fill[start:stop] = 0
        fill[start + int(np.nansum(train[:, start:stop], axis=0).argmax())] = 1
    return fill


def to_float32(
    values: NDArray[Any],
    columns: Sequence[str],
    deviation: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Returns inputs [N, columns] float64 rounded to float32.

    deviation: of each column in the training split; None for standardised values, which are only
        too large where a value is far beyond all of the training split.
    Raises InputError for columns with values that float32 cannot represent: those beyond its range,
    whole numbers that it rounds, and values whose rounding counts beside the column's deviation.
    """
    import numpy as np

    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float32)
    lost = np.isinf(rounded)
    way = "leave the column out, or give it in another unit or without its offset"
    if deviation is not None:
        way = f"set standardise: true, or {way}"
        whole = (values == np.round(values)) & (np.abs(values) < EXACT_INTEGERS)
        lost |= whole & (rounded != values)
        lost |= _counts(rounded, values, deviation)
    _refuse(lost, values, columns, way)
    return rounded


def _counts(rounded: NDArray[Any], values: NDArray[Any], deviation: NDArray[Any]) -> NDArray[Any]:
    """Whether the error of rounding a value counts beside its column's deviation."""
    import numpy as np

    with np.errstate(over="ignore", invalid="ignore"):
        error = np.abs(rounded - values)
    counts = error > LARGEST_ROUNDING * np.where(deviation > 0, deviation, np.inf)
    lost: NDArray[Any] = counts | ((rounded == 0) & (values != 0) & (deviation == 0))
    return lost


def _refuse(lost: NDArray[Any], values: NDArray[Any], columns: Sequence[str], way: str) -> None:
    """Raises InputError that names each column with a lost value, and the first such value."""
    import numpy as np

    problems = []
    for column in np.flatnonzero(lost.any(axis=0)).tolist():
        value = format_value(float(values[lost[:, column].argmax(), column]))
        what = f"column {columns[column]!r}: float32 cannot represent {value} closely enough"
        problems.append(Problem(what, hint=way))
    if problems:
        raise InputError(problems)


def check_targets(targets: NDArray[Any], name: str) -> None:
    """Raises InputError for targets [N, 1] float64 that float32 cannot represent or tell apart, or
    the squares of whose errors it cannot represent."""
    import numpy as np

    way = "give the target in another unit, or without its offset"
    with np.errstate(over="ignore", under="ignore"):
        rounded = targets.astype(np.float32)
    lost = np.isinf(rounded)
    lost |= _counts(rounded, targets, StandardScaler.fit(targets).original_deviation)
    whole = bool((targets == np.round(targets)).all())
    if whole and np.unique(rounded).size < np.unique(targets).size:
        lost |= rounded != targets
    _refuse(lost, targets, [name], way)
    low, high = SQUARES
    spread = float(np.ptp(targets))
    if 0 < spread < low or np.abs(targets).max() > high:
        what = f"column {name!r}: float32 has no squares of such small or large errors"
        raise InputError(Problem(what, hint=way))
