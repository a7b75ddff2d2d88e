"""The winners again: each study's best point, and its default beside it, on fresh seeds."""

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
"""Fresh seeds lie below it: short enough to read out."""


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The outcome of a study. number: of its best point; None where no point was completed."""

    label: str
    default: Trial
    tuned: Trial | None
    number: int | None
    value: float | None


def study_result(study: TuningStudy) -> StudyResult:
    """Returns what a study found. Of several objectives the first decides."""
    best = study.best()
    if best is None:
        return StudyResult(study.plan.label, study.plan.default, None, None, None)
    tuned = study.plan.trial(study.values_of(best))
    return StudyResult(study.plan.label, study.plan.default, tuned, best.number, best.values[0])


def fresh_seeds(search: Search) -> list[int]:
    """Seeds that no point was judged on: from the search's seed, each once."""
    found: list[int] = []
    for number in count():
        if len(found) == search.retrain_seeds:
            return found
        seed = stream_seed(search.seed, "retrain", number) % SEEDS
        if seed not in search.seeds and seed not in found:
            found.append(seed)
    raise AssertionError("count never ends")


@dataclass(frozen=True, slots=True)
class RetrainingPlan:
    """What is trained on fresh seeds. search_tags: the tags of each trial's run that say which part
    it has in the search, by trial id (see `names.TAG_ROLE`)."""

    plan: Plan
    search_tags: Mapping[str, Mapping[str, str]]


def plan_retraining(
    experiment: Experiment, studies: Sequence[TuningStudy], winners: Sequence[StudyResult]
) -> RetrainingPlan:
    """Each study's tuned trial and its default, on the same fresh seeds, so that they are paired.

    A default that is the tuned trial itself is trained once.
    """
    trials: dict[str, PlannedTrial] = {}
    search_tags: dict[str, Mapping[str, str]] = {}
    for study, found in zip(studies, winners, strict=True):
        seeds = fresh_seeds(study.search)
        for role, trial in ((names.TUNED, found.tuned), (names.DEFAULT, found.default)):
            if trial is None:
                continue
            name = f"{study.plan.label} {role} {study.plan.described(trial)}".strip()
            for planned in study.plan.planned(trial, seeds, name):
                there = planned.trial_id in trials
                search_tags[planned.trial_id] = {
                    "study": study.plan.label,
                    "role": names.BOTH if there else role,
                }
                named = replace(planned, name=_named(name, planned))
                trials.setdefault(planned.trial_id, named)
    search = studies[0].search
    axes = [axis for axis in experiment.axes if axis.field in search.per]
    axes += [Axis(dimension.field, ()) for dimension in search.space]
    axes.append(Axis("seed", tuple(fresh_seeds(search))))
    plan = Plan(replace(experiment, axes=tuple(axes)), tuple(trials.values()), ())
    return RetrainingPlan(plan, search_tags)


def _named(name: str, planned: PlannedTrial) -> str:
    return f"{name} seed={planned.trial.seed}"
