"""A trial's run in MLflow, written from the trial's records."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.metrics import BATCH_LOSS, Goal, summarise_trial
from harness.core.records import FINISHED, BatchLosses, Ended, Measured, Outcome, Record, Started
from harness.core.text import format_value
from harness.experiment.plan import PlannedTrial
from harness.store import names
from harness.store.artifacts.trial_outputs import TrialOutputs
from harness.store.provenance import Times, trial_provenance
from harness.store.uris import redact
from harness.store.write.run_log import Moment, RunLog

STATUS: Mapping[Outcome, str] = {
    Outcome.DONE: "FINISHED",
    Outcome.DIVERGED: "FINISHED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}
FLUSH_SECONDS = 5.0
FLUSH_COST = 0.05
"""Seconds between flushes for each open run: with very many, writing never takes over."""


@dataclass(slots=True)
class Shared:
    """What a sweep's runs share. folder: where the experiment file lies. open_runs: how many are
    being written. fingerprint: of a trial's data set. keep: takes a done trial's evidence before
    its run is closed, and returns tags for the run. closed: called with the run's outcome after it
    was closed. settle: called where the run should stand in the store as far as it was handed over.
    """

    goal: Goal
    folder: Path
    fingerprint: Callable[[PlannedTrial], str]
    keep: Callable[[PlannedTrial, TrialOutputs], Mapping[str, str]]
    closed: Callable[[PlannedTrial, str, Outcome], None]
    settle: Callable[[], None]
    open_runs: int = 0


@dataclass(slots=True)
class TrialRun:
    """Takes a trial's records in their order; `Ended` closes the run, after which more are an
    error. Raises StoreError where the store cannot be written."""

    planned: PlannedTrial
    log: RunLog
    shared: Shared
    sampler: Mapping[str, Any] = field(default_factory=dict)
    started: Moment = field(default_factory=Moment.now)
    ended: Outcome | None = None
    _facts: Mapping[str, Any] = field(default_factory=dict)
    _history: list[Measured] = field(default_factory=list)
    _flushed: float = field(default_factory=time.monotonic)

    @property
    def run_id(self) -> str:
        return self.log.run_id

    def record(self, record: Record, at: Moment | None = None) -> None:
        """Write a record, now or with the next ones. at: when it came, by default now."""
        at = at or Moment.now()
        if self.ended is not None:
            raise ValueError(f"the run of {self.planned.name!r} has ended")
        match record:
            case Started():
                self._found(record.metadata)
            case Measured():
                self._history.append(record)
                self.log.metrics(record.values, record.epoch, at.utc)
            case BatchLosses():
                for examples, loss in zip(record.examples, record.losses, strict=True):
                    self.log.metrics({BATCH_LOSS: loss}, examples, at.utc)
            case Ended():
                self._end(record, at)
                return
        self._flush_now_and_then()

    def _found(self, metadata: Mapping[str, Any]) -> None:
        self._facts = {**self._facts, **metadata}
        tags = {
            names.TAG_DEVICE: "device",
            names.TAG_DEVICE_NAME: "device_name",
            names.TAG_EXCLUSIVE: "exclusive",
            names.TAG_STACK_SIZE: "fused",
            names.TAG_NOT_STACKED: "not_fused",
            names.TAG_RESUMED: "resumed",
            names.TAG_RESUMED_AFTER: "resumed_after",
            names.TAG_CONTINUED_FROM: "continued_from",
            names.TAG_NOT_CONTINUED: "not_continued",
            names.TAG_RESTARTED: "restarted",
            names.TAG_CUDA_GRAPH: "cuda_graph",
        }
        self.log.tags(
            {tag: format_value(metadata[name]) for tag, name in tags.items() if name in metadata}
        )

    def _flush_now_and_then(self) -> None:
        """So that the UI shows the curves of a long trial, and a short one is one call."""
        clock = time.monotonic()
        if clock - self._flushed >= max(FLUSH_SECONDS, FLUSH_COST * self.shared.open_runs):
            self.log.flush()
            self.shared.settle()
            self._flushed = clock

    def _end(self, ended: Ended, at: Moment) -> None:
        times = Times(start=self.started.utc, end=at.utc, seconds=at.steady - self.started.steady)
        last = self._history[-1].epoch if self._history else 0
        if ended.outcome in FINISHED:  # The best epoch of half a trial is not a result.
            scalars = summarise_trial(self._history, ended.final, self.shared.goal)
            self.log.metrics(scalars, last, at.utc)
        self._found(ended.metadata)
        self.log.tags(self._kept(ended))
        self.log.files(self._files(ended, times))
        self.log.tags(self._outcome(ended))
        self.log.end(STATUS[ended.outcome], times.end)
        self.ended = ended.outcome
        self.shared.closed(self.planned, self.run_id, ended.outcome)
        self.shared.settle()

    def _kept(self, ended: Ended) -> Mapping[str, str]:
        if ended.outcome is not Outcome.DONE or ended.test_outputs is None:
            return {}
        kept = TrialOutputs(
            trial_id=self.planned.trial_id,
            run_id=self.run_id,
            history=tuple(self._history),
            test_outputs=ended.test_outputs,
        )
        return self.shared.keep(self.planned, kept)

    def _files(self, ended: Ended, times: Times) -> dict[str, str | Mapping[str, Any]]:
        files: dict[str, str | Mapping[str, Any]] = {
            "provenance.json": trial_provenance(
                self.shared.folder,
                self.planned,
                self.shared.fingerprint(self.planned),
                self._facts,
                ended,
                times,
                self.sampler,
            )
        }
        if ended.traceback:
            files["traceback.txt"] = redact(ended.traceback)
        return files

    def _outcome(self, ended: Ended) -> dict[str, str]:
        tags = {names.TAG_OUTCOME: ended.outcome.value}
        if ended.reason:
            tags[names.TAG_REASON] = redact(ended.reason)[:1000]
        if ended.pruned_at is not None:
            tags[names.TAG_PRUNED_AT] = str(ended.pruned_at)
        if ended.outcome is Outcome.DIVERGED:
            # Each epoch whose loss is finite is measured, so the next is the one that was not.
            after = self._history[-1].epoch + 1 if self._history else 0
            tags[names.TAG_DIVERGED_AT] = str(after)
        return tags
