"""What became of a trial, trained now or found in the store, in the words of a study."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.core.metrics import Goal, best_epoch
from harness.core.records import FINISHED, Ended, Measured, Outcome, Record, Started
from harness.experiment.experiment import PARAMETERS, TRAIN_SECONDS, Objective, Search
from harness.store.read.index import RunInfo
from harness.store.read.trial_results import recall_history, recall_parameters, recall_shared
from harness.store.retry import patient
from harness.store.store import Store
from harness.store.write.background import FAREWELL_SECONDS

"""Outcomes that are not run again."""


@dataclass(slots=True)
class TrialResult:
    """A trial as it is trained, or as it was. parameters: of its model. shared_by: how many trained
    together with it as one stack, itself counted."""

    history: list[Measured] = field(default_factory=list)
    parameters: int | None = None
    shared_by: int = 1
    outcome: Outcome | None = None
    reason: str = ""

    def take(self, record: Record) -> None:
        """Add one record."""
        match record:
            case Started():
                self.parameters = record.metadata.get("parameters")
                self.shared_by = record.metadata.get("fused", 1)
            case Measured():
                self.history.append(record)
            case Ended():
                self.outcome, self.reason = record.outcome, record.reason

    @property
    def seconds(self) -> float:
        """Of training; of a stack's clock, the trial's part."""
        clock = self.history[-1].values.get(TRAIN_SECONDS, 0.0) if self.history else 0.0
        return clock / self.shared_by

    def values(self, objectives: Sequence[Objective], goal: Goal) -> list[float] | None:
        """The objectives' values: measures at the epoch with the best selection metric. None
        where one was not measured."""
        top = best_epoch(self.history, goal)
        if top is None:
            return None
        costs: Mapping[str, float | None] = {
            TRAIN_SECONDS: self.seconds,
            PARAMETERS: self.parameters,
        }
        found = [costs.get(o.metric, top.values.get(o.metric)) for o in objectives]
        return None if None in found else [float(value) for value in found if value is not None]


class StoredResults:
    """The trials of an experiment that stand in the store already."""

    def __init__(self, store: Store, runs: Mapping[str, RunInfo], search: Search) -> None:
        self._store = store
        self._runs = runs
        self._objectives = search.objectives
        self._is_timed = search.minutes is not None or TRAIN_SECONDS in self._measures

    def find(self, trial_id: str, goal: Goal) -> TrialResult | None:
        """A finished trial's result; None where it has none, or where an objective is not among
        what was recorded."""
        run = self._runs.get(trial_id)
        if run is None or run.outcome not in FINISHED:
            return None
        deadline = time.monotonic() + FAREWELL_SECONDS
        with patient(lambda: time.monotonic() < deadline):
            return self._recall(run, goal)

    def _recall(self, run: RunInfo, goal: Goal) -> TrialResult | None:
        history = recall_history(
            self._store, run.run_id, self._measures - {PARAMETERS} | {TRAIN_SECONDS}
        )
        found = TrialResult(list(history), outcome=run.outcome)
        if self._is_timed:
            found.shared_by = recall_shared(self._store, run.run_id)
            if found.shared_by > 1 and TRAIN_SECONDS in self._measures:
                return None  # The clock was its stack's.
        if PARAMETERS in self._measures:
            found.parameters = recall_parameters(self._store, run.run_id)
        if run.outcome is Outcome.DONE and found.values(self._objectives, goal) is None:
            return None
        return found

    @property
    def _measures(self) -> set[str]:
        return {objective.metric for objective in self._objectives}
