"""One run in MLflow (`RunLog`), and a trial's run, which is made from its records (`TrialRun`)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.core.metrics import BATCH_LOSS, Goal, summarise_trial
from harness.core.records import FINISHED, BatchLosses, Ended, Measured, Outcome, Record, Started
from harness.core.text import format_value
from harness.experiment.plan import PlannedTrial
from harness.store import names
from harness.store.provenance import Times, trial_provenance
from harness.store.uris import redact
from harness.store.write.backend import Backend, NewRun, Point
from harness.store.write.files import Contents, store_files

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

MAX_TAG_LENGTH: Final = 8000
"""MLflow cuts longer tags without a word; half a JSON text is worse than none."""

STATUS: Final[Mapping[Outcome, str]] = {
    Outcome.DONE: "FINISHED",
    Outcome.DIVERGED: "FINISHED",
    Outcome.FAILED: "FAILED",
    Outcome.INTERRUPTED: "KILLED",
}
"""The run's status in MLflow."""

METADATA_TAGS: Final[Mapping[str, str]] = {
    "device": names.TAG_DEVICE,
    "device_name": names.TAG_DEVICE_NAME,
    "exclusive": names.TAG_EXCLUSIVE,
    "fused": names.TAG_STACK_SIZE,
    "not_fused": names.TAG_NOT_STACKED,
    "resumed": names.TAG_RESUMED,
    "resumed_after": names.TAG_RESUMED_AFTER,
    "continued_from": names.TAG_CONTINUED_FROM,
    "not_continued": names.TAG_NOT_CONTINUED,
    "restarted": names.TAG_RESTARTED,
    "cuda_graph": names.TAG_CUDA_GRAPH,
}
"""Tags by the entry of a record's metadata that they hold."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, which may be long before it is written.

    utc: milliseconds since 1970, UTC. steady: seconds of a clock that nobody sets.
    """

    utc: int
    steady: float

    @classmethod
    def now(cls) -> Moment:
        return cls(time.time_ns() // 1_000_000, time.monotonic())


class RunLog:
    """One run of the store. Metrics, params and tags are buffered until `flush` or `end` hands them
    to the backend.

    dataset: the run's MLflow input. Each value carries the time at which it was logged, so that a
    call that is tried again writes nothing twice. Methods that reach the store raise StoreError.
    Not thread-safe.
    """

    def __init__(
        self,
        backend: Backend,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        started: int | None = None,
        dataset: DatasetInput | None = None,
    ) -> None:
        self._backend = backend
        self._logged: dict[int, set[str]] = {}
        self._points: list[Point] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self.started = Moment.now().utc if started is None else started
        new = NewRun(experiment_id, name, _without_long(tags), self.started, dataset)
        created = backend.create(new)
        self.run_id = created.run_id
        self._artifacts = created.artifacts

    def metrics(self, values: Mapping[str, float], step: int, at: int | None = None) -> None:
        """Logs metrics at a step. at: milliseconds since 1970, by default now.

        Skips a metric that the run already has at this step, and values that are not finite: MLflow
        would store infinity as a number that nobody measured.
        """
        moment = Moment.now().utc if at is None else at
        logged = self._logged.setdefault(step, set())
        for name, value in values.items():
            if name not in logged and isfinite(value):
                logged.add(name)
                self._points.append((name, float(value), moment, step))

    def params(self, values: Mapping[str, str]) -> None:
        self._params.update(values)

    def tags(self, values: Mapping[str, str]) -> None:
        self._tags.update(_without_long(values))

    def flush(self) -> None:
        """Writes the buffered metrics, params and tags to the backend."""
        self._backend.write(self.run_id, self._points, self._params, self._tags)
        self._points, self._params, self._tags = [], {}, {}

    def files(self, contents: Contents) -> None:
        store_files(self._artifacts, self._backend.uri, contents)

    def end(self, status: str, end: int | None = None) -> None:
        """Flushes, then closes the run. status: "FINISHED", "FAILED" or "KILLED"."""
        self.flush()
        self._backend.end(self.run_id, status, Moment.now().utc if end is None else end)


def _without_long(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if len(value) <= MAX_TAG_LENGTH}


@dataclass(slots=True)
class TrialRun:
    """Turns a trial's records, in their order, into the rows and files of its run.

    search: what a search records of the trial. started: when its first record came.
    """

    planned: PlannedTrial
    log: RunLog
    goal: Goal
    search: Mapping[str, Any]
    started: Moment
    history: list[Measured] = field(default_factory=list)
    _metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        return self.log.run_id

    def add(self, record: Record, at: Moment) -> None:
        """Adds a record other than the last. at: when it came."""
        match record:
            case Started():
                self._add_metadata(record.metadata)
            case Measured():
                self.history.append(record)
                self.log.metrics(record.values, record.epoch, at.utc)
            case BatchLosses():
                for examples, loss in zip(record.examples, record.losses, strict=True):
                    self.log.metrics({BATCH_LOSS: loss}, examples, at.utc)

    def end(
        self, ended: Ended, at: Moment, tags: Mapping[str, str], folder: Path, fingerprint: str
    ) -> None:
        """Adds the last record, and closes the run.

        tags: further tags. folder: the experiment file's. fingerprint: of the trial's data set.
        """
        if ended.outcome in FINISHED:  # The best epoch of half a trial is not a result.
            summary = summarise_trial(self.history, ended.final, self.goal)
            self.log.metrics(summary, self._last_epoch, at.utc)
        self._add_metadata(ended.metadata)
        times = Times(start=self.started.utc, end=at.utc, seconds=at.steady - self.started.steady)
        provenance = trial_provenance(
            folder, self.planned, fingerprint, self._metadata, ended, times, self.search
        )
        files: dict[str, str | Mapping[str, Any]] = {"provenance.json": provenance}
        if ended.traceback:
            files["traceback.txt"] = redact(ended.traceback)
        self.log.files(files)
        self.log.tags({**tags, **self._outcome_tags(ended)})
        self.log.end(STATUS[ended.outcome], times.end)

    @property
    def _last_epoch(self) -> int:
        return self.history[-1].epoch if self.history else 0

    def _add_metadata(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = {**self._metadata, **metadata}
        self.log.tags(
            {
                tag: format_value(metadata[name])
                for name, tag in METADATA_TAGS.items()
                if name in metadata
            }
        )

    def _outcome_tags(self, ended: Ended) -> dict[str, str]:
        tags = {names.TAG_OUTCOME: ended.outcome.value}
        if ended.reason:
            tags[names.TAG_REASON] = redact(ended.reason)[:1000]
        if ended.pruned_at is not None:
            tags[names.TAG_PRUNED_AT] = str(ended.pruned_at)
        if ended.outcome is Outcome.DIVERGED:
            # Each epoch with a finite loss is measured, so the next is the one that was not.
            tags[names.TAG_DIVERGED_AT] = str(self._last_epoch + 1 if self.history else 0)
        return tags
