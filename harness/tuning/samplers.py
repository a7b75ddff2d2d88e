"""Optuna's samplers and pruners, from what a file asks for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import (
    BasePruner,
    HyperbandPruner,
    MedianPruner,
    NopPruner,
    SuccessiveHalvingPruner,
    WilcoxonPruner,
)
from optuna.samplers import (
    BaseSampler,
    CmaEsSampler,
    GPSampler,
    GridSampler,
    NSGAIISampler,
    RandomSampler,
    TPESampler,
)

from harness.core.seeding import stream_seed
from harness.experiment.experiment import (
    CategoricalDimension,
    Dimension,
    NumericDimension,
    Search,
    value_label,
)
from harness.tuning.points import StudyPlan, points_of
from harness.tuning.quasi_random import QuasiRandomSampler


class Grid(GridSampler):
    """Optuna's, but that it stops no loop at its last point: the budget does."""

    def after_trial(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        state: optuna.trial.TrialState,
        values: Sequence[float] | None,
    ) -> None: ...


Scalar = bool | int | float | str | None


def choices(dimension: CategoricalDimension) -> list[Scalar]:
    """A list's values as Optuna stores them: plain numbers and text as they are, else labels."""
    plain = all(isinstance(value, (int, float, str)) for value in dimension.values)
    distinct = len(set(dimension.values)) == len(dimension.values)  # True is 1 to a set
    if plain and distinct:
        return list(dimension.values)
    return [value_label(value) for value in dimension.values]


def encoded(dimension: Dimension, value: Any) -> Scalar:
    """A value of the space as Optuna stores it."""
    if isinstance(dimension, NumericDimension):
        number: Scalar = value
        return number
    return choices(dimension)[dimension.values.index(value)]


def decoded(dimension: Dimension, stored: Any) -> Any:
    """The value that Optuna stores as `stored`, as a trial takes it."""
    if isinstance(dimension, CategoricalDimension):
        return dimension.values[choices(dimension).index(stored)]
    return stored


def suggest(trial: optuna.Trial, dimension: Dimension) -> Any:
    """One field's value, as a trial takes it."""
    name = dimension.field
    if isinstance(dimension, CategoricalDimension):
        stored = choices(dimension)
        return dimension.values[stored.index(trial.suggest_categorical(name, stored))]
    low, high, log, step = dimension.low, dimension.high, dimension.log, dimension.step
    if dimension.integer:
        return trial.suggest_int(name, int(low), int(high), step=int(step or 1), log=log)
    return trial.suggest_float(name, low, high, step=step, log=log)


def make_sampler(study: StudyPlan, ordinal: int) -> BaseSampler:
    """The sampler for a study's point number `ordinal`.

    Its seed follows from the search's seed and from the ordinal, so that it has no state to lose:
    a search that was killed goes on as if it had not been. Every study draws the same stream, so
    that no optimizer has luckier points.
    """
    search = study.search
    constant = stream_seed(search.seed, "sampler") % 2**32
    seed = stream_seed(search.seed, "sampler", ordinal) % 2**32
    options = dict(search.sampler.options)
    match search.sampler.name:
        case "qmc":
            fields = [dimension.field for dimension in study.dimensions]
            return QuasiRandomSampler(fields, ordinal, options["sequence"], constant)
        case "grid":
            space = {
                d.field: [encoded(d, value) for value in points_of(d)] for d in study.dimensions
            }
            return Grid(space, seed=constant)
        case "gp" | "cmaes":
            options["warn_independent_sampling"] = False
        case "tpe" if options["multivariate"]:
            options["warn_independent_sampling"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _SAMPLERS[search.sampler.name](seed=seed, **options)


_SAMPLERS: Mapping[str, Callable[..., BaseSampler]] = {
    "tpe": TPESampler,
    "random": RandomSampler,
    "gp": GPSampler,
    "cmaes": CmaEsSampler,
    "nsga2": NSGAIISampler,
}


def make_pruner(search: Search, epochs: int) -> BasePruner:
    """epochs: the most that a trial of the study trains."""
    options = search.pruner.options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return _make_pruner(search.pruner.name, options, epochs)


def _make_pruner(name: str, options: Mapping[str, Any], epochs: int) -> BasePruner:
    match name:
        case "median":
            return MedianPruner(**options)
        case "asha":
            return SuccessiveHalvingPruner(**options)
        case "hyperband":
            return HyperbandPruner(max_resource=epochs, **options)
        case "wilcoxon":
            return WilcoxonPruner(**options)
    return NopPruner()
