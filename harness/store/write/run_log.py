"""Writes one MLflow run: buffered, in few large calls, each value once."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any

from harness.store.write.files import store_files
from harness.store.write.sinks import NewRun, Point, Sink

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

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
    """One run of the store. `metrics`, `params` and `tags` wait for `flush` or `end`, which hand
    them to the sink.

    dataset: what the run is trained on. Each value carries the time it was given, so that a call
    tried again writes nothing twice. Every method that reaches the store raises StoreError. Not
    thread-safe.
    """

    def __init__(
        self,
        sink: Sink,
        experiment_id: str,
        name: str,
        tags: Mapping[str, str],
        started: int | None = None,
        dataset: DatasetInput | None = None,
    ) -> None:
        self._sink = sink
        self._written: dict[int, set[str]] = {}
        self._points: list[Point] = []
        self._params: dict[str, str] = {}
        self._tags: dict[str, str] = {}
        self.started = now() if started is None else started
        place = sink.create(NewRun(experiment_id, name, fitting(tags), self.started, dataset))
        self.run_id = place.run_id
        self._artifacts = place.artifacts

    def metrics(self, values: Mapping[str, float], step: int, at: int | None = None) -> None:
        """Ignored are those that the run has at this step, and values that are not finite: MLflow
        stores infinity as a number that nobody measured. at: when, by default now."""
        moment = now() if at is None else at
        written = self._written.setdefault(step, set())
        for name, value in values.items():
            if name not in written and isfinite(value):
                written.add(name)
                self._points.append((name, float(value), moment, step))

    def params(self, values: Mapping[str, str]) -> None:
        self._params.update(values)

    def tags(self, values: Mapping[str, str]) -> None:
        self._tags.update(fitting(values))

    def flush(self) -> None:
        """Write what waits."""
        self._sink.write(self.run_id, self._points, self._params, self._tags)
        self._points, self._params, self._tags = [], {}, {}

    def files(self, contents: Mapping[str, str | Mapping[str, Any]]) -> None:
        """Store small files by their path in the run; a mapping as JSON."""
        store_files(self._artifacts, self._sink.uri, contents)

    def end(self, status: str, end: int | None = None) -> None:
        """Write what waits, then close the run. status: "FINISHED", "FAILED" or "KILLED"."""
        self.flush()
        self._sink.end(self.run_id, status, now() if end is None else end)
