"""Plans the retraining: each study's tuned trial and its default, on fresh seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count

from harness.core.seeding import stream_seed
from harness.experiment.experiment import Experiment, Search
from harness.experiment.grid import Axis
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Trial
from harness.store import names
from harness.tuning.study import TuningStudy

SEEDS = 1_000_000
"""Fresh seeds are smaller than this, so that people can read them out."""


@dataclass(frozen=True, slots=True)
class StudyResult:
    """What a study found.

    tuned: the trial of its best point; None where no point was completed.
    number: the best point's number. value: its value of the first objective.
    """

    label: str
    default: Trial
    tuned: Trial | None = None
    number: int | None = None
    value: float | None = None


def study_result(study: TuningStudy) -> StudyResult:
    """Returns what a study found. Of several objectives the first decides."""
    best = study.best()
    if best is None:
        return StudyResult(study.plan.label, study.plan.default)
    tuned = study.plan.trial(study.point_of(best))
    return StudyResult(study.plan.label, study.plan.default, tuned, best.number, best.values[0])


@dataclass(frozen=True, slots=True)
class RetrainingPlan:
    """What is trained on fresh seeds.

    search_tags: the tags of each trial's run that say which part it has in the search, by trial id
    (see `names.TAG_ROLE`).
    """

    plan: Plan
    search_tags: Mapping[str, Mapping[str, str]]


def plan_retraining(
    experiment: Experiment, studies: Sequence[TuningStudy], results: Sequence[StudyResult]
) -> RetrainingPlan:
    """Plans each study's tuned trial and its default on the same fresh seeds, as pairs.

    A default that is the tuned trial itself is trained once.
    """
    search = studies[0].search
    seeds = fresh_seeds(search)
    trials: dict[str, PlannedTrial] = {}
    search_tags: dict[str, Mapping[str, str]] = {}
    for study, result in zip(studies, results, strict=True):
        label = study.plan.label
        for role, trial in ((names.TUNED, result.tuned), (names.DEFAULT, result.default)):
            if trial is None:
                continue
            name = f"{label} {role} {study.plan.describe(trial)}".strip()
            for planned in study.plan.planned_trials(trial, seeds, name):
                is_planned = planned.trial_id in trials
                search_tags[planned.trial_id] = {
                    "study": label,
                    "role": names.BOTH if is_planned else role,
                }
                named = replace(planned, name=f"{name} seed={planned.trial.seed}")
                trials.setdefault(planned.trial_id, named)
    axes = [axis for axis in experiment.axes if axis.field in search.per]
    axes += [Axis(dimension.field, ()) for dimension in search.space]
    axes.append(Axis("seed", tuple(seeds)))
    plan = Plan(replace(experiment, axes=tuple(axes)), tuple(trials.values()), ())
    return RetrainingPlan(plan, search_tags)


def fresh_seeds(search: Search) -> list[int]:
    """Draws `retrain_seeds` different seeds that no point was judged on, from the search's seed."""
    seeds: list[int] = []
    for number in count():
        if len(seeds) == search.retrain_seeds:
            return seeds
        seed = stream_seed(search.seed, "retrain", number) % SEEDS
        if seed not in search.seeds and seed not in seeds:
            seeds.append(seed)
    raise AssertionError("count never ends")
