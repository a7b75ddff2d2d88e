"""Writes one MLflow run: buffered, in few large calls, each value once."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.tracking.batches import batches
from harness.tracking.persist import persist
from harness.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities import Metric, Run

TAG_LENGTH = 8000
"""MLflow cuts a longer tag silently; JSON cut in half is worse than none."""


def now() -> int:
    """Milliseconds since 1970, UTC: MLflow's timestamps."""
    return time.time_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Moment:
    """When something happened, which may be long before it is written.

    utc: milliseconds since 1970, UTC. steady: seconds of a clock that nobody sets.
    """

    utc: int
    steady: float

    @classmethod
    def now(cls) -> Moment:
        return cls(now(), time.monotonic())


def fitting(tags: Mapping[str, str]) -> dict[str, str]:
    """`tags` without those that MLflow would cut."""
    return {name: value for name, value in tags.items() if len(value) <= TAG_LENGTH}


class RunLog:
    """One run of the store. `metric`, `params` and `tags` wait for `flush` or `end`.

    Each value carries the time it was given, so that a call tried again writes nothing twice.
    Every method that reaches the store raises StoreError. Not thread-safe.
    """

    def __init__(
        self,
        store: Store,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        started: int | None = None,
    ) -> None:
        self._store = store
        self._written: set[tuple[str, int]] = set()
        self._metrics: list[Metric] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self.started = now() if started is None else started
        run: Run = persist(
            "create a run",
            lambda: store.client.create_run(
                experiment_id, start_time=self.started, tags=fitting(tags), run_name=name
            ),
        )
        self.run_id: str = run.info.run_id
        self._artifact_uri: str = run.info.artifact_uri

    def metric(self, name: str, value: float, step: int, at: int | None = None) -> None:
        """Ignored where the run has this metric at this step, and where the value is not finite:
        MLflow stores infinity as a number that nobody measured. at: when, by default now."""
        from mlflow.entities import Metric

        if (name, step) in self._written or not isfinite(value):
            return
        self._written.add((name, step))
        self._metrics.append(Metric(name, float(value), now() if at is None else at, step))

    def params(self, values: Mapping[str, str]) -> None:
        self._params.update(values)

    def tags(self, values: Mapping[str, str]) -> None:
        self._tags.update(fitting(values))

    def flush(self) -> None:
        """Write what waits."""
        from mlflow.entities import Param, RunTag

        params = [Param(key, value) for key, value in self._params.items()]
        tags = [RunTag(key, value) for key, value in self._tags.items()]
        for batch in batches(self._metrics, params, tags):
            persist(
                "write to a run",
                lambda batch=batch: self._store.client.log_batch(  # type: ignore[misc]
                    self.run_id, batch.metrics, batch.params, batch.tags, synchronous=True
                ),
            )
        self._metrics, self._params, self._tags = [], {}, {}

    def dataset(self, dataset: Any) -> None:
        """Record a `DatasetInput` as what the run was trained on."""
        persist("write to a run", lambda: self._store.client.log_inputs(self.run_id, [dataset]))

    def files(self, contents: Mapping[str, str | Mapping[str, Any]]) -> None:
        """Store small files by their path in the run; a mapping as JSON."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with tempfile.TemporaryDirectory() as folder:
            for name, content in contents.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                text = content if isinstance(content, str) else json.dumps(content, indent=1)
                path.write_text(text, encoding="utf-8")
            # The client's own log_artifacts asks the store for the run before each upload.
            repository = get_artifact_repository(self._artifact_uri, tracking_uri=self._store.uri)
            persist(
                "store a run's files",
                lambda: repository.log_artifacts(folder),  # type: ignore[no-untyped-call]
            )

    def end(self, status: str, end: int | None = None) -> None:
        """Write what waits, then close the run. status: "FINISHED", "FAILED" or "KILLED"."""
        self.flush()
        end = now() if end is None else end
        persist(
            "close a run",
            lambda: self._store.client.set_terminated(self.run_id, status, end_time=end),
        )
