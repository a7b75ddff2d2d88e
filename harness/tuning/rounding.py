"""Proposed numbers with as many digits as tell them apart, so that a person can type the winner's:
lr 0.0365 in place of 0.03650297304650816."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor, log10
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

DIGITS = 4
"""Of a number on a logarithmic scale; else of the range's width, which leaves a thousand values or
more."""


class RoundingSampler(BaseSampler):
    """Another sampler, whose floats are rounded before they are stored."""

    def __init__(self, inner: BaseSampler) -> None:
        self.inner = inner

    def reseed_rng(self) -> None:
        self.inner.reseed_rng()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        search_space: dict[str, BaseDistribution],
    ) -> dict[str, Any]:
        drawn = self.inner.sample_relative(study, trial, search_space)
        return {name: rounded(search_space[name], value) for name, value in drawn.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        drawn = self.inner.sample_independent(study, trial, param_name, param_distribution)
        return rounded(param_distribution, drawn)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.inner.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        self.inner.after_trial(study, trial, state, values)


def rounded(distribution: BaseDistribution, value: Any) -> Any:
    """A value of a continuous range, rounded within the range; any other as it is."""
    if not isinstance(distribution, FloatDistribution) or distribution.step is not None:
        return value
    low, high = distribution.low, distribution.high
    if not low < value < high:
        return value
    decimals = DIGITS - 1 - floor(log10(high - low))
    if distribution.log:
        decimals = max(decimals, DIGITS - 1 - floor(log10(value)))
    return min(max(round(value, decimals), low), high)
