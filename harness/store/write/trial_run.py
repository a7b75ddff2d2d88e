"""One run in MLflow (`RunLog`), and a trial's run, which is made from its records (`TrialRun`)."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from harness.core.metrics import BATCH_LOSS, Goal, summarise_trial
from harness.core.records import FINISHED, BatchLosses, Ended, Measured, Outcome, Record, Started
from harness.core.seeding import SEEDING_RULE, stream_seeds
from harness.core.text import format_value
from harness.experiment.plan import PlannedTrial
from harness.store import names
from harness.store.long_values import longest_param, longest_tag, shorten
from harness.store.provenance import Moment, process_provenance, utc
from harness.store.retry import with_retries
from harness.store.uris import redact
from harness.store.write.backend import NewRun, Point
from harness.store.write.sql_backend import Backend

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

LONGEST_NAME: Final = 250
"""Characters of MLflow's column of run names, which are for people."""

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


Contents = Mapping[str, str | Mapping[str, Any]]
"""Files by their path in the run: text, or a mapping that is stored as JSON."""


class RunLog:
    """One run of the store. Metrics, params and tags are buffered until `flush` or `end` hands them
    to the backend.

    Values that are longer than MLflow allows become files of the run (see `store.long_values`).

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
        at = Moment.now().utc if started is None else started
        short, files = shorten(tags, longest_tag())
        shown = name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
        created = backend.create(NewRun(experiment_id, shown, short, at, dataset))
        self.run_id = created.run_id
        self._artifacts = created.artifacts
        self._store_long(files)

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
        short, files = shorten(values, longest_param())
        self._store_long(files)
        self._params.update(short)

    def tags(self, values: Mapping[str, str]) -> None:
        short, files = shorten(values, longest_tag())
        self._store_long(files)
        self._tags.update(short)

    def flush(self) -> None:
        """Writes the buffered metrics, params and tags to the backend."""
        self._backend.write(self.run_id, self._points, self._params, self._tags)
        self._points, self._params, self._tags = [], {}, {}

    def files(self, contents: Contents) -> None:
        """Stores files with the run, in place if the run's folder is on this machine."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
        from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

        # The client's own log_artifacts asks the store for the run before each upload.
        repository = get_artifact_repository(self._artifacts, tracking_uri=self._backend.uri)
        if type(repository) is LocalArtifactRepository:
            home = Path(repository.artifact_dir)
            with_retries("store a run's files", _write_files, home, contents)
            return
        with tempfile.TemporaryDirectory() as folder:
            _write_files(Path(folder), contents)
            with_retries("store a run's files", repository.log_artifacts, folder)

    def _store_long(self, files: Contents) -> None:
        if files:
            self.files(files)

    def end(self, status: str, end: int | None = None) -> None:
        """Flushes, then closes the run. status: "FINISHED", "FAILED" or "KILLED"."""
        self.flush()
        self._backend.end(self.run_id, status, Moment.now().utc if end is None else end)


def _write_files(home: Path, contents: Contents) -> None:
    """Writes each file whole or not at all."""
    for name, content in contents.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            text = content if isinstance(content, str) else json.dumps(content, indent=1)
            partial.write_text(text, encoding="utf-8")
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


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

    def end(self, ended: Ended, at: Moment, tags: Mapping[str, str], folder: Path) -> None:
        """Adds the last record, and closes the run.

        tags: further tags. folder: the experiment file's.
        """
        if ended.outcome in FINISHED:  # The best epoch of half a trial is not a result.
            summary = summarise_trial(self.history, ended.final, self.goal)
            self.log.metrics(summary, self._last_epoch, at.utc)
        self._add_metadata(ended.metadata)
        provenance = {
            **process_provenance(folder).metadata,
            "trial": self.planned.trial.resolved(),
            "trial_id": self.planned.trial_id,
            "config_id": self.planned.config_id,
            "dataset_sha256": self.planned.fingerprint.data,
            "weights_sha256": self.planned.fingerprint.weights,
            "streams": stream_seeds(self.planned.trial.seed),
            "streams_rule": SEEDING_RULE,
            "facts": dict(self._metadata),
            "sampler": dict(self.search),
            "start": utc(self.started.utc),
            "end": utc(at.utc),
            "seconds": at.steady - self.started.steady,
            "outcome": ended.outcome.value,
            "reason": redact(ended.reason),
        }
        files: dict[str, str | Mapping[str, Any]] = {names.PROVENANCE_FILE: provenance}
        if ended.traceback:
            files["traceback.txt"] = redact(ended.traceback)
        self.log.files(files)
        self.log.tags({**tags, **self._outcome_tags(ended)})
        self.log.end(STATUS[ended.outcome], at.utc)

    @property
    def _last_epoch(self) -> int:
        return self.history[-1].epoch if self.history else 0

    def _add_metadata(self, metadata: Mapping[str, Any]) -> None:
        self._metadata = {**self._metadata, **metadata}
        tags = {tag: name for name, tag in METADATA_TAGS.items() if name in metadata}
        self.log.tags({tag: format_value(metadata[name]) for tag, name in tags.items()})

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
