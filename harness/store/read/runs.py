"""Runs as plain data, whichever way they were read from the store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from harness.core.metrics import BEST, EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, FINAL, THROUGHPUT
from harness.core.records import Outcome
from harness.store.names import ARTIFACTS_COMPLETE, TAG_GIT_COMMIT

SUMMARY_PREFIXES = (FINAL, BEST, "time/", "memory/")
SUMMARY_METRICS = (EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, THROUGHPUT)
"""The metrics that summarise a run; with the prefixes above, those that `StoredRun` holds."""
TAG_PREFIXES = ("harness.", "mlflow.parentRunId", TAG_GIT_COMMIT)
"""The tags that `StoredRun` holds."""

MetricPoint = tuple[str, str, int, float]
"""Run id, metric, step and value of one measurement."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What decides whether a trial has to be trained.

    outcome: None while the run is open or if its process was killed.
    best: the selection metric at its best epoch; None if it was never measured.
    has_artifacts: whether figures, weights and model are all stored.
    started: milliseconds since 1970, UTC.
    """

    run_id: str
    trial_id: str
    outcome: Outcome | None
    best: float | None
    has_artifacts: bool
    started: int

    @classmethod
    def of(
        cls,
        run_id: str,
        trial_id: str,
        outcome: str | None,
        best: float | None,
        artifacts: str | None,
        started: int | None,
    ) -> RunSummary:
        """Builds a summary from stored values. outcome, artifacts: values of tags."""
        known = Outcome(outcome) if outcome in set(Outcome) else None
        return cls(run_id, trial_id, known, best, artifacts == ARTIFACTS_COMPLETE, started or 0)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run with its params, its summary metrics (no histories) and the harness's tags.

    started: milliseconds since 1970, UTC.
    """

    run_id: str
    name: str
    status: str
    started: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


class RunReader(Protocol):
    """Reads the runs of a store."""

    def latest_runs(self, experiment_id: str) -> dict[str, RunSummary]:
        """Returns the latest run of each trial, by trial id, without superseded runs."""
        ...

    def runs(self, experiment_id: str) -> list[StoredRun]:
        """Returns all runs that are not deleted, the oldest first."""
        ...

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """Returns all points of these metrics of these runs, in any order."""
        ...


def latest_of_each_trial(runs: Iterable[RunSummary]) -> dict[str, RunSummary]:
    """Returns the run of each trial that started last, by trial id."""
    return {run.trial_id: run for run in sorted(runs, key=lambda run: (run.started, run.run_id))}
