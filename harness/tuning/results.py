"""The result of a trial, trained now or read from the store, as a study judges it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.core.metrics import EVALUATION, TRAIN_SECONDS, Goal, best_epoch
from harness.core.records import FINISHED, Ended, Measured, Outcome, Record, Started
from harness.experiment.experiment import PARAMETERS, Objective, Search
from harness.store import names
from harness.store.read.run_details import read_history, read_parameter_count, read_stack_size
from harness.store.read.runs import RunSummary
from harness.store.retry import retry_while
from harness.store.store import Store
from harness.store.write.background import EXIT_SECONDS


@dataclass(slots=True)
class TrialResult:
    """The result of a trial so far.

    parameters: how many weights its model has.
    stack_size: how many trials trained with it as one stack, itself included.
    """

    history: list[Measured] = field(default_factory=list)
    parameters: int | None = None
    stack_size: int = 1
    outcome: Outcome | None = None
    reason: str = ""

    def add(self, record: Record) -> None:
        match record:
            case Started():
                self.parameters = record.metadata.get("parameters")
                self.stack_size = record.metadata.get("fused", 1)
            case Measured():
                self.history.append(record)
            case Ended():
                self.outcome, self.reason = record.outcome, record.reason

    def until(self, epoch: int | None) -> TrialResult:
        """Returns the result as it was after an epoch; all of it where that is None."""
        if epoch is None:
            return self
        return replace(self, history=[m for m in self.history if m.epoch <= epoch])

    @property
    def seconds(self) -> float:
        """The seconds of training: of a stack's clock, the trial's share."""
        clock = self.history[-1].values.get(TRAIN_SECONDS, 0.0) if self.history else 0.0
        return clock / self.stack_size

    def values(self, objectives: Sequence[Objective], goal: Goal) -> list[float] | None:
        """Returns the objectives' values at the epoch with the best selection metric.

        Returns None where one of them was not measured.
        """
        top = best_epoch(self.history, goal)
        if top is None:
            return None
        costs = {TRAIN_SECONDS: self.seconds, PARAMETERS: self.parameters}
        values = [costs.get(o.metric, top.values.get(o.metric)) for o in objectives]
        return None if None in values else [float(value) for value in values if value is not None]


def find_stored_result(
    store: Store, runs: Mapping[str, RunSummary], search: Search, trial_id: str, goal: Goal
) -> TrialResult | None:
    """Returns a finished trial's result from the store.

    Returns None where the trial is not finished, and where its run lacks an objective. runs: each
    trial's latest run, by trial id.
    """
    run = runs.get(trial_id)
    if run is None or run.outcome not in FINISHED:
        return None
    deadline = time.monotonic() + EXIT_SECONDS
    with retry_while(lambda: time.monotonic() < deadline):
        return _read(store, run, search, goal)


def _read(store: Store, run: RunSummary, search: Search, goal: Goal) -> TrialResult | None:
    metrics = {objective.metric for objective in search.objectives}
    names_read = metrics - {PARAMETERS} | {TRAIN_SECONDS, EVALUATION}
    history = read_history(store, run.run_id, names_read)
    result = TrialResult(list(history), outcome=run.outcome)
    if search.minutes is not None or TRAIN_SECONDS in metrics:
        result.stack_size = read_stack_size(store, run.run_id)
        if result.stack_size > 1 and TRAIN_SECONDS in metrics:
            return None  # The clock was the stack's, not the trial's.
    if PARAMETERS in metrics:
        result.parameters = read_parameter_count(store, run.run_id)
    if run.outcome is Outcome.DONE and result.values(search.objectives, goal) is None:
        return None
    return result


def tag_stored_runs(
    store: Store,
    experiment_id: str,
    search_tags: Mapping[str, Mapping[str, str]],
    latest: Mapping[str, RunSummary],
) -> None:
    """Sets the search's tags on the runs that the store has already.

    A sweep may have trained them, or an earlier search with another tuned trial. search_tags: of
    each trial to be retrained, by trial id. latest: each trial's latest run, by trial id.
    """
    stored_tags = {run.run_id: run.tags for run in store.runs(experiment_id)}
    for trial_id, tags in search_tags.items():
        if trial_id not in latest:
            continue
        run_id = latest[trial_id].run_id
        for key, value in tags.items():
            tag = names.TAG_SEARCH_PREFIX + key
            if stored_tags[run_id].get(tag) != value:
                store.set_tag(run_id, tag, value)
