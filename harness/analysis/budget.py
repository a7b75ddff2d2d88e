"""What so many configs can be expected to find: the best validation score of k."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ESTIMATOR = "expected maximum of k configs drawn without replacement (Tang et al., 2020)"

DEFAULT_LR = {
    "sgd": 1e-3,
    "momentum": 1e-3,
    "nesterov": 1e-3,
    "adam": 1e-3,
    "adamw": 1e-3,
    "rmsprop": 1e-2,
    "adagrad": 1e-2,
    "nadam": 2e-3,
    "radam": 1e-3,
}
"""The learning rates that `torch.optim` has for who gives none."""


def expected_best(values: Sequence[float], direction: str = "max") -> NDArray[np.float64]:
    """Expected best of k of these n values, for k = 1 … n: unbiased, by order statistics.

    The estimator of Dodge et al. (2019) draws with replacement, which is biased downward (Tang et
    al., 2020). Returns [n]; raises ValueError where a value is not finite.
    """
    data = np.sort(np.asarray(values, dtype=float))
    if not np.isfinite(data).all():
        raise ValueError("a config without a value has no place in an expectation")
    if direction == "min":
        return -expected_best((-data).tolist())
    n = data.size
    if n == 0:
        return np.empty(0)
    best = np.empty(n)
    # Of all subsets of k, the part whose largest is the i-th is C(i − 1, k − 1) / C(n, k): k / n
    # for the largest, and falling from there by a ratio that needs no factorial.
    for k in range(1, n + 1):
        below = np.arange(n - 1, k - 1, -1)
        weights = np.cumprod(np.concatenate(([k / n], (below - k + 1) / below)))
        best[k - 1] = weights @ data[::-1][: weights.size]
    return best
