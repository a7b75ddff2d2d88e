"""Quasi-random search, as AlgoPerf tunes: points that fill the space more evenly than chance.

A study's n-th point is the n-th of a scrambled low-discrepancy sequence, whatever was measured and
however many workers train, and every study has the same points.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial


class QuasiRandomSampler(BaseSampler):
    """fields: one coordinate each, in this order. ordinal: which point of the sequence (from 0).
    sequence: "halton" (Owen's scrambling) or "sobol"."""

    def __init__(self, fields: Sequence[str], ordinal: int, sequence: str, seed: int) -> None:
        from scipy.stats import qmc

        kind = {"halton": qmc.Halton, "sobol": qmc.Sobol}[sequence]
        drawn = kind(d=len(fields), scramble=True, seed=seed)
        if ordinal:
            drawn.fast_forward(ordinal)
        self._unit = dict(zip(fields, drawn.random(1)[0].tolist(), strict=True))

    def infer_relative_search_space(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
        search_space: dict[str, BaseDistribution],  # noqa: ARG002
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return from_unit(param_distribution, self._unit[param_name])


def from_unit(distribution: BaseDistribution, unit: float) -> Any:
    """The value at `unit`, in [0, 1), of a distribution's range; on its scale and on its steps."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(unit * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - no others
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution) and distribution.log:
        # Each integer owns the half unit on either side of it.
        drawn = exp(log(low - 0.5) + unit * (log(high + 0.5) - log(low - 0.5)))
        return min(max(round(drawn), low), high)
    if distribution.step is not None:
        steps = round((high - low) / distribution.step) + 1
        return low + int(unit * steps) * distribution.step
    drawn = (
        exp(log(low) + unit * log(high / low)) if distribution.log else low + unit * (high - low)
    )
    return min(max(drawn, low), high)
