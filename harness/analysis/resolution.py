"""The resolution of a metric: how far two of its values lie apart that are not equal.

An accuracy is a count over N, rounded to a binary fraction. Equal counts give equal values, but
equal differences of counts do not give equal differences of values, and the order of a sum changes
the last bits of a mean. What compares values reads them from here, where those that differ by
rounding alone are equal: exactly, so that `==` and `<` decide from then on.

All tolerances are relative: a value of 1e-14 differs from 2e-14 as 1 does from 2. A difference has
the resolution of its operands.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from harness.core.metrics import BEST, FINAL, GIVEN, Direction

if TYPE_CHECKING:
    import pandas as pd

DOUBLE = 2.0**-42
"""Relative resolution of numbers in double precision, 1,024 units in the last place: a measure such
as 1 − accuracy has lost some digits already."""
SINGLE = 2.0**-21
"""Relative resolution of numbers that were computed in single precision: 4 units."""
EXACT = 0.0
"""Resolution of whole numbers, which are not rounded."""
LARGEST_EXACT = 2.0**53


def resolution_of(values: ArrayLike) -> float:
    """Returns the relative resolution of a metric, judged by all of its values."""
    data = np.asarray(values, dtype=float)
    finite = data[np.isfinite(data)]
    if (np.abs(finite) < LARGEST_EXACT).all() and (finite == np.rint(finite)).all():
        return EXACT
    with np.errstate(over="ignore", under="ignore"):
        single = finite.astype(np.float32)
    return SINGLE if (single == finite).all() else DOUBLE


def resolve(values: ArrayLike, resolution: float = DOUBLE) -> NDArray[np.float64]:
    """Returns the values, with those equal that differ by rounding alone. What is not finite stays
    as it is.

    Each value becomes the lowest one that lies within the resolution. Rounding to digits would
    separate equals that stand on both sides of a digit's edge, such as multiples of 1/8192.
    """
    data = np.array(values, dtype=float)
    finite = np.isfinite(data)
    data[finite] = _merge(data[finite], resolution * np.abs(data[finite]))
    return data


def differences(
    a: ArrayLike, b: ArrayLike, resolution: float = DOUBLE, *, diverged: float = np.nan
) -> NDArray[np.float64]:
    """Returns a − b [n], with those equal in size, or 0, that differ by rounding alone.

    diverged: the difference of two trials that both diverged, and have no value.
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    with np.errstate(invalid="ignore"):  # Trials that diverged are infinitely bad.
        noise = resolution * np.maximum(np.abs(first), np.abs(second))
        found = first - second
    finite = np.isfinite(found)
    sizes = np.abs(found[finite])
    sizes[sizes <= noise[finite]] = 0.0
    found[finite] = np.copysign(_merge(sizes, noise[finite]), found[finite])
    return np.where((first == second) & ~finite, diverged, found) + 0.0


def noise_of(*values: ArrayLike, resolution: float = DOUBLE) -> float:
    """Returns the largest amount that is rounding alone in a sum or difference of these values."""
    finite = [np.abs(data[np.isfinite(data)]) for data in map(np.asarray, values)]
    return resolution * float(max((data.max() for data in finite if data.size), default=0.0))


def mean_difference(values: NDArray[np.float64], noise: float) -> float | None:
    """Returns the mean of differences [n], 0 if it is rounding alone; None if there are none."""
    if not values.size:
        return None
    mean = float(values.mean())
    return mean if abs(mean) > noise else 0.0


def exceeds(a: float, b: float, resolution: float = DOUBLE) -> bool:
    """Whether a is above b by more than rounding."""
    return a > b and (not isfinite(a - b) or a - b > resolution * max(abs(a), abs(b)))


def earliest_best(values: Sequence[float], direction: Direction) -> int | None:
    """Returns the place of the best value, of equals the first; None if there is none."""
    resolved = resolve(values, resolution_of(values)).tolist()
    best = max if direction == "max" else min
    return resolved.index(best(resolved)) if resolved else None


def power_of_two(sizes: ArrayLike) -> NDArray[np.float64]:
    """Returns a power of two near each size. Dividing by it loses no digits, and keeps squares and
    sums from becoming 0 or infinite."""
    return np.asarray(np.ldexp(0.5, np.frexp(np.asarray(sizes, dtype=float))[1]))


def resolve_table(trials: pd.DataFrame, scalars: Sequence[str]) -> pd.DataFrame:
    """Returns a table of trials, with the columns resolved that measure a model."""
    measures = [name for name in scalars if name.startswith((BEST, FINAL, GIVEN))]
    columns = {name: trials[name].to_numpy(dtype=float) for name in measures}
    return trials.assign(**{n: resolve(v, resolution_of(v)) for n, v in columns.items()})


def _merge(values: NDArray[np.float64], noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Returns each value [n] as the lowest one from which it differs by rounding alone."""
    distinct, place_of = np.unique(values, return_inverse=True)
    allowed = np.zeros(distinct.size)
    np.maximum.at(allowed, place_of, noise)
    with np.errstate(over="ignore"):
        close = np.diff(distinct) <= np.maximum(allowed[1:], allowed[:-1])
    if not close.any():
        return values
    lowest = 0
    for place in range(1, distinct.size):
        apart = distinct[place] - distinct[lowest]
        if apart <= max(allowed[place], allowed[lowest]):
            distinct[place] = distinct[lowest]
        else:
            lowest = place
    return distinct[place_of]
