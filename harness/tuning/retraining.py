"""Plans the retraining: each study's tuned trial and its default, on fresh seeds.

Trials that the store has already are not trained again, but their runs get the search's tags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from harness.core.seeding import stream_seed
from harness.experiment.experiment import Experiment, Search
from harness.experiment.grid import Axis
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Trial
from harness.store import names
from harness.store.read.runs import RunSummary
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.tuning.study import TuningStudy

SEEDS = 1_000_000
"""Fresh seeds are smaller than this, so that people can read them out."""


@dataclass(frozen=True, slots=True)
class StudyResult:
    """The result of a study.

    tuned: the trial of its best point; None where no point was completed.
    number: the best point's number. value: its value of the first objective.
    """

    label: str
    default: Trial
    tuned: Trial | None = None
    number: int | None = None
    value: float | None = None


def study_result(study: TuningStudy) -> StudyResult:
    """Returns a study's result. Of several objectives, the first decides."""
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


def tag_stored_runs(
    store: Store, retraining: RetrainingPlan, latest: Mapping[str, RunSummary]
) -> None:
    """Sets the search's tags on the runs that the store has already.

    A sweep may have trained them, or an earlier search with another tuned trial. latest: each
    trial's latest run, by trial id.
    """
    experiment_id = store.experiment(retraining.plan.experiment.name)
    stored_tags = {run.run_id: run.tags for run in store.runs(experiment_id)}
    for trial_id, search_tags in retraining.search_tags.items():
        if trial_id not in latest:
            continue
        run_id = latest[trial_id].run_id
        for key, value in search_tags.items():
            tag = names.TAG_SEARCH_PREFIX + key
            if stored_tags[run_id].get(tag) != value:
                with_retries("write to a run", partial(store.client.set_tag, run_id, tag, value))
