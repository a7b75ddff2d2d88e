"""Which point a study's sampler proposes next, where some points were left out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Final

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from harness.core.seeding import stream_seed
from harness.experiment.trial import Trial
from harness.tuning.attributes import LEFT_OUT, TRIALS, is_counted
from harness.tuning.samplers import (
    FixedSampler,
    encode,
    make_sampler,
    random_sampler,
    round_value,
    suggest,
)
from harness.tuning.study_plan import Point, StudyPlan, applies, with_fields

MAX_LEFT_OUT_OF_SAMPLER: Final = 10
"""After so many points in a row that were left out, the next are drawn at random: a sampler that
models the space may propose the same point for ever."""


class Proposals:
    """The points that a study's sampler proposes.

    A point is drawn with random numbers that follow from its ordinal: how many points before it
    were trained or left out. No two points of a study have the same ordinal, also where several
    processes draw at once.
    """

    def __init__(self, plan: StudyPlan, optuna_study: optuna.Study) -> None:
        self._plan = plan
        self._optuna_study = optuna_study

    def reserve(self, n_left_out: int) -> optuna.Trial:
        """Returns the study's next point, of which nothing is drawn yet.

        n_left_out: how many points in a row were left out just before.
        """
        self._optuna_study.sampler = random_sampler(0)  # Draws nothing here.
        reserved = self._optuna_study.ask()
        trials = self._optuna_study.get_trials(deepcopy=False)
        earlier = [trial for trial in trials if trial.number < reserved.number]
        self._optuna_study.sampler = self._sampler(trials, earlier, n_left_out)
        return optuna.Trial(self._optuna_study, reserved._trial_id)

    def suggest(self, optuna_trial: optuna.Trial) -> Trial:
        """Draws each field that applies to the components drawn before it.

        Raises InvalidPoint where the point has no trial, or the rules leave it out.
        """
        trial, point = self._plan.base.trial, {}
        for dimension in self._plan.dimensions:
            if applies(dimension.field, trial):
                point[dimension.field] = suggest(optuna_trial, dimension)
                if "." not in dimension.field:
                    trial = with_fields(trial, {dimension.field: point[dimension.field]})
        return self._plan.trial(point)

    def untried(self, trials: Sequence[FrozenTrial]) -> list[Point]:
        """Returns the points of a finite space that the rules allow and no trial stands for."""
        tried = {
            # An earlier version stored 0.30000000000000004 for 0.3.
            frozenset((f, round_value(t.distributions[f], v)) for f, v in t.params.items())
            for t in trials
            if TRIALS in t.user_attrs
        }
        return [point for stored, point in self._allowed if stored not in tried]

    @cached_property
    def _allowed(self) -> list[tuple[frozenset[tuple[str, object]], Point]]:
        """The points that the rules allow, each as Optuna stores it and as a trial takes it."""
        points = self._plan.allowed_points
        return [(frozenset(self._encoded(point).items()), point) for point in points]

    def _sampler(
        self, trials: Sequence[FrozenTrial], earlier: Sequence[FrozenTrial], n_left_out: int
    ) -> BaseSampler:
        name = self._plan.search.sampler.name
        ordinal = sum(is_counted(t) or LEFT_OUT in t.user_attrs for t in earlier)
        if name == "grid":
            left = self.untried(trials)
            drawing = sum(t.state is TrialState.RUNNING and not t.params for t in earlier)
            return FixedSampler(self._encoded(left[drawing % len(left)]) if left else {})
        if n_left_out >= MAX_LEFT_OUT_OF_SAMPLER and self._plan.is_listable:
            allowed = self._plan.allowed_points
            drawn = stream_seed(self._plan.search.seed, "allowed", ordinal) % len(allowed)
            return FixedSampler(self._encoded(allowed[drawn]))
        if n_left_out >= MAX_LEFT_OUT_OF_SAMPLER and name != "qmc":
            return random_sampler(self._plan.search.seed, ordinal)
        return make_sampler(self._plan, ordinal)

    def _encoded(self, point: Point) -> dict[str, object]:
        dimensions = {dimension.field: dimension for dimension in self._plan.dimensions}
        return {field: encode(dimensions[field], value) for field, value in point.items()}
