"""What the runs of a search say of it: its parent runs, and the runs that its winners take over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.experiment.experiment import CategoricalDimension, Experiment, Search
from harness.experiment.grid import Axis
from harness.experiment.plan import Plan
from harness.store import names
from harness.store.read.runs import RunSummary, read_runs
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.tuning.retraining import RetrainingPlan
from harness.tuning.study_plan import StudyPlan


def search_plan(experiment: Experiment, studies: Sequence[StudyPlan], search: Search) -> Plan:
    """Returns the plan that the parent runs describe, and that the runs' params follow: the base
    trial of each study, with every searched field as an axis."""
    searched = [
        Axis(d.field, d.values if isinstance(d, CategoricalDimension) else (d.low, d.high))
        for d in search.space
    ]
    per = [axis for axis in experiment.axes if axis.field in search.per]
    described = replace(experiment, axes=(*per, *searched))
    return Plan(described, tuple(study.base for study in studies), ())


def tag_stored_runs(
    store: Store, retraining: RetrainingPlan, latest: Mapping[str, RunSummary]
) -> None:
    """Sets the search's tags on runs that the store has already: a sweep may have trained them, or
    an earlier search that had another winner."""
    experiment_id = store.experiment(retraining.plan.experiment.name)
    tags_of = {run.run_id: run.tags for run in read_runs(store, experiment_id)}
    for trial_id, search_tags in retraining.search_tags.items():
        run = latest.get(trial_id)
        if run is None:
            continue
        for key, value in search_tags.items():
            tag = names.TAG_SEARCH_PREFIX + key
            if tags_of[run.run_id].get(tag) != value:
                set_tag = partial(store.client.set_tag, run.run_id, tag, value)
                with_retries("write to a run", set_tag)
