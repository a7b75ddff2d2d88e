"""The studies in MLflow: a parent run for each, a child for each trial that it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from types import TracebackType
from typing import Any

from harness.core.metrics import Goal
from harness.core.records import FINISHED, Outcome
from harness.experiment.experiment import CategoricalDimension, Experiment, Search
from harness.experiment.grid import Axis
from harness.experiment.plan import Plan, PlannedTrial
from harness.store import names
from harness.store.read.runs import RunSummary, read_runs
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.write.background import BackgroundRun, BackgroundWriter, replay
from harness.store.write.outbox import Outbox
from harness.store.write.run_log import Moment
from harness.store.write.sinks import open_sink
from harness.store.write.sweep_writer import SweepWriter
from harness.store.write.trial_run import TrialRun
from harness.tuning.retraining import RetrainingPlan
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import StudyPlan


class StudyRuns:
    """Opens a study's parent run when its first trial is written, and closes all of them.

    A `tracking.background.TrialWriter`. trials: how many are left of each study, by its label.
    """

    def __init__(
        self,
        store: Store,
        plan: Plan,
        goal: Goal,
        studies: Sequence[TuningStudy],
        trials: Mapping[str, int],
    ) -> None:
        self._store = store
        self._plan = plan
        self._goal = goal
        self._trials = trials
        self._studies = studies
        self._writers: dict[str, SweepWriter] = {}
        self._stack = ExitStack()
        self._experiment_id = store.experiment(plan.experiment.name)
        self.outbox = Outbox(store.outbox(self._experiment_id))
        self.sink = open_sink(store)
        self._batching = False

    @property
    def batching(self) -> bool:
        """As `SweepWriter.batching`, of all studies."""
        return self._batching

    @batching.setter
    def batching(self, batching: bool) -> None:
        self._batching = batching
        for writer in self._writers.values():
            writer.batching = batching

    def __enter__(self) -> StudyRuns:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, traceback)

    def take_in(self) -> int:
        """Write the points that an earlier search trained while the store did not answer. Returns
        how many."""
        return replay(self) if any(self.outbox.held()) else 0

    def start_trial(
        self,
        planned: PlannedTrial,
        sampler: Mapping[str, Any] | None = None,
        at: Moment | None = None,
    ) -> TrialRun:
        """As `SweepWriter.start_trial`, below the parent run of the study that asked for it."""
        label = str((sampler or {}).get("study", self._studies[0].plan.label))
        return self.parent(label).start_trial(planned, sampler, at)

    def stored(self) -> Iterator[tuple[PlannedTrial, Outcome]]:
        """As `SweepWriter.stored`, of all studies."""
        for writer in list(self._writers.values()):
            yield from writer.stored()

    def planned(self, trial_id: str) -> PlannedTrial | None:
        """The trial of this id, where a study has asked for it."""
        return self._asked.get(trial_id)

    def is_finished(self, planned: PlannedTrial) -> bool:
        """Whether the trial stood in the store when this was first asked."""
        run = self._finished.get(planned.trial_id)
        return run is not None and run.outcome in FINISHED

    def parent(self, label: str) -> SweepWriter:
        """The writer of a study, its parent run opened where it is not."""
        if label not in self._writers:
            writer = SweepWriter(
                self._store,
                self._plan,
                self._goal,
                kind=names.STUDY,
                trials=self._trials[label],
                title=f"study {label}",
                sink=self.sink,
            )
            writer.batching = self._batching
            self._writers[label] = self._stack.enter_context(writer)
        return self._writers[label]

    @cached_property
    def _asked(self) -> Mapping[str, PlannedTrial]:
        return {one.trial_id: one for study in self._studies for one in study.planned_trials()}

    @cached_property
    def _finished(self) -> Mapping[str, RunSummary]:
        return self._store.latest_runs(self._experiment_id)


@dataclass(frozen=True, slots=True)
class TaggingWriter:
    """Adds the search's tags to the run of each trial. search_tags: by trial id."""

    background: BackgroundWriter
    search_tags: Mapping[str, Mapping[str, str]]

    def start_trial(self, planned: PlannedTrial) -> BackgroundRun:
        return self.background.start_trial(planned, self.search_tags.get(planned.trial_id))


def mark(store: Store, retraining: RetrainingPlan, found: Mapping[str, RunSummary]) -> None:
    """Say of runs that were there before what they are to this search: it may have a new winner,
    and a sweep may have trained it."""
    experiment_id = store.experiment(retraining.plan.experiment.name)
    stored = {run.run_id: run.tags for run in read_runs(store, experiment_id)}
    for trial_id, known in retraining.search_tags.items():
        run = found.get(trial_id)
        if run is None:
            continue
        for key, value in known.items():
            tag = names.TAG_SEARCH_PREFIX + key
            if stored[run.run_id].get(tag) != value:
                with_retries(
                    "write to a run", partial(store.client.set_tag, run.run_id, tag, value)
                )


def search_plan(experiment: Experiment, studies: Sequence[StudyPlan], search: Search) -> Plan:
    """What the parent runs say of a search, and what its runs' params are made from: the bases,
    and every field that is searched as an axis."""
    searched = [
        Axis(d.field, d.values if isinstance(d, CategoricalDimension) else (d.low, d.high))
        for d in search.space
    ]
    per = [axis for axis in experiment.axes if axis.field in search.per]
    described = replace(experiment, axes=(*per, *searched))
    return Plan(described, tuple(study.base for study in studies), ())
