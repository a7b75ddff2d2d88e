"""Optuna's samplers and pruners as an experiment file names them, and samplers of our own.

`QuasiRandomSampler` gives the points of a low-discrepancy sequence; `FixedSampler` gives one point;
`RoundingSampler` shortens the floats that another sampler proposes.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from math import exp, log
from typing import Any, Final

import optuna
from optuna import pruners, samplers
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import ExperimentalWarning
from optuna.trial import FrozenTrial

from harness.core.seeding import stream_seed
from harness.experiment.experiment import (
    CategoricalDimension,
    Dimension,
    NumericDimension,
    Search,
)
from harness.experiment.ranges import at_step, count_steps, nearest_step, round_within
from harness.experiment.trial import value_label
from harness.tuning.study_plan import StudyPlan

WARN: Final = "warn_independent_sampling"
"""The option of samplers that warns of fields which do not apply to every point."""
_SAMPLERS: Mapping[str, Callable[..., samplers.BaseSampler]] = {
    "tpe": samplers.TPESampler,
    "random": samplers.RandomSampler,
    "gp": samplers.GPSampler,
    "cmaes": samplers.CmaEsSampler,
    "nsga2": samplers.NSGAIISampler,
}
_PRUNERS: Mapping[str, Callable[..., pruners.BasePruner]] = {
    "none": pruners.NopPruner,
    "median": pruners.MedianPruner,
    "asha": pruners.SuccessiveHalvingPruner,
    "hyperband": pruners.HyperbandPruner,
    "wilcoxon": pruners.WilcoxonPruner,
}


def encode(dimension: Dimension, value: Any) -> Any:
    """Returns a value of the space as Optuna stores it."""
    if isinstance(dimension, CategoricalDimension):
        return _stored_choices(dimension)[dimension.values.index(value)]
    return value


def decode(dimension: Dimension, stored: Any) -> Any:
    """Returns a value that Optuna stores as a trial takes it."""
    if isinstance(dimension, CategoricalDimension):
        return dimension.values[_stored_choices(dimension).index(stored)]
    return stored


def suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    """Lets the study's sampler propose a value of one field. Returns it as a trial takes it."""
    name = dimension.field
    if isinstance(dimension, CategoricalDimension):
        return decode(dimension, trial.suggest_categorical(name, _stored_choices(dimension)))
    low, high, log_scale, step = dimension.low, dimension.high, dimension.log, dimension.step
    if dimension.integer:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=log_scale)
    return trial.suggest_float(name, low, high, step=step, log=log_scale)


def make_sampler(study: StudyPlan, ordinal: int) -> samplers.BaseSampler:
    """Makes the sampler of a study's point number `ordinal`.

    The sampler's seed follows from the search's seed and the ordinal, so that the sampler has no
    state to lose: a search that was killed continues as if it had not been. Every study draws the
    same random numbers, so that no optimizer gets luckier points.
    """
    search = study.search
    constant = stream_seed(search.seed, "sampler") % 2**32
    seed = stream_seed(search.seed, "sampler", ordinal) % 2**32
    options = dict(search.sampler.options)
    match search.sampler.name:
        case "qmc":
            fields = [dimension.field for dimension in study.dimensions]
            return RoundingSampler(
                QuasiRandomSampler(fields, ordinal, options["sequence"], constant)
            )
    kind = _SAMPLERS[search.sampler.name]
    if optuna_default(kind, WARN) is True:  # Newer versions warn of the argument itself.
        options[WARN] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RoundingSampler(kind(seed=seed, **options))


def optuna_default(kind: Callable[..., Any], option: str) -> Any:
    """Returns the default that the installed Optuna gives an option; None where it has none."""
    parameter = inspect.signature(kind).parameters.get(option)
    return None if parameter is None else parameter.default


def random_sampler(seed: int, ordinal: int = 0) -> samplers.BaseSampler:
    """Makes a sampler that draws at random. seed: the search's."""
    return RoundingSampler(samplers.RandomSampler(stream_seed(seed, "random", ordinal) % 2**32))


def points_per_round(study: StudyPlan) -> int | None:
    """Returns how many points a study's sampler draws before it uses any result.

    Returns None for a sampler that uses none.
    """
    options = study.search.sampler.options
    match study.search.sampler.name:
        case "tpe" | "gp":
            default = optuna_default(_SAMPLERS[study.search.sampler.name], "n_startup_trials")
            return max(1, int(options.get("n_startup_trials", default)))
        case "nsga2":
            return int(options["population_size"])
        case "cmaes":
            n_ranges = sum(isinstance(d, NumericDimension) for d in study.dimensions)
            population = 4 + int(3 * log(max(1, n_ranges)))  # Hansen's population size
            return max(int(options["n_startup_trials"]), population)
    return None


def make_pruner(search: Search, epochs: int) -> pruners.BasePruner:
    """Makes the pruner that a search names. epochs: the most that a trial of the study trains."""
    options = dict(search.pruner.options)
    if search.pruner.name == "hyperband":
        options["max_resource"] = epochs
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _PRUNERS[search.pruner.name](**options)


class FixedSampler(samplers.RandomSampler):
    """Proposes one point. values: of each of its fields, as Optuna stores them."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__()
        self._values = values

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        if param_name in self._values:
            return self._values[param_name]
        return super().sample_independent(study, trial, param_name, param_distribution)


class QuasiRandomSampler(samplers.RandomSampler):
    """Proposes the points of a scrambled low-discrepancy sequence, as AlgoPerf tunes.

    The sequence fills the space more evenly than chance. A study's n-th point is the sequence's
    n-th, whatever was measured and however many workers train, and every study gets the same
    points.

    fields: one coordinate of the sequence each, in this order.
    ordinal: which point of the sequence to propose, from 0.
    sequence: "halton" (with Owen's scrambling) or "sobol".
    """

    def __init__(self, fields: Sequence[str], ordinal: int, sequence: str, seed: int) -> None:
        from scipy.stats import qmc

        super().__init__()
        engine = {"halton": qmc.Halton, "sobol": qmc.Sobol}[sequence]
        points = engine(d=len(fields), scramble=True, seed=seed)
        if ordinal:
            points.fast_forward(ordinal)
        self._coordinates = dict(zip(fields, points.random(1)[0].tolist(), strict=True))

    def sample_independent(
        self,
        study: optuna.Study,  # noqa: ARG002 - Optuna's signature
        trial: FrozenTrial,  # noqa: ARG002
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return from_unit(param_distribution, self._coordinates[param_name])


def from_unit(distribution: BaseDistribution, unit: float) -> Any:
    """Maps `unit`, in [0, 1), to a value of a distribution, on its scale and on its steps."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(unit * len(distribution.choices))]
    assert isinstance(distribution, FloatDistribution | IntDistribution)  # noqa: S101 - no others
    low, high = distribution.low, distribution.high
    if isinstance(distribution, IntDistribution) and distribution.log:
        # Each integer gets the half unit on either side of it.
        drawn = exp(log(low - 0.5) + unit * (log(high + 0.5) - log(low - 0.5)))
        return min(max(round(drawn), low), high)
    if distribution.step is not None:
        n_values = int(count_steps(low, high, distribution.step)) + 1
        number = int(unit * n_values)
        if isinstance(distribution, IntDistribution):
            return low + number * distribution.step
        return at_step(low, distribution.step, number)
    drawn = low + unit * (high - low)
    if distribution.log:
        drawn = exp(log(low) + unit * log(high / low))
    return min(max(drawn, low), high)


class RoundingSampler(samplers.BaseSampler):
    """Rounds the floats that another sampler proposes, before they are stored.

    A person can then type a tuned learning rate: 0.0365 rather than 0.03650297304650816. On steps,
    every sampler gives a value one spelling: 0.3 rather than 0.30000000000000004.

    The other sampler's `after_trial` is not called: it serves constraints, which a search does not
    have, and it would end a grid's study, which the budget does.
    """

    def __init__(self, sampler: samplers.BaseSampler) -> None:
        self.sampler = sampler

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        values = self.sampler.sample_relative(study, trial, search_space)
        return {name: round_value(search_space[name], value) for name, value in values.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        value = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return round_value(param_distribution, value)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        self.sampler.before_trial(study, trial)


def round_value(distribution: BaseDistribution, value: Any) -> Any:
    """Returns the value of a range of floats that is meant; returns others unchanged."""
    if not isinstance(distribution, FloatDistribution):
        return value
    low, high = distribution.low, distribution.high
    if distribution.step is not None:
        return nearest_step(low, high, distribution.step, value)
    return round_within(low, high, value, distribution.log)


def _stored_choices(dimension: CategoricalDimension) -> list[Any]:
    """Returns a list's values as Optuna stores them: numbers and text as they are, else labels."""
    plain = all(isinstance(value, (int, float, str)) for value in dimension.values)
    distinct = len(set(dimension.values)) == len(dimension.values)  # True equals 1 in a set
    if plain and distinct:
        return list(dimension.values)
    return [value_label(value) for value in dimension.values]
