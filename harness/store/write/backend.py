"""Writes runs through MLflow's client.

`sql_backend` has the other backend, which writes into the tables of MLflow's own database. A
backend may hold rows back until `commit`. If the process is killed earlier, each run is as some
commit left it. Callers pass each value of a metric once. Every method raises StoreError if the
store cannot be written. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, TypeVar

from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput

T = TypeVar("T")

Point = tuple[str, float, int, int]
"""A value of a metric: its name, the value (finite), milliseconds since 1970, the step."""

MAX_ENTITIES: Final = 1000
"""MLflow's limit of metrics, params and tags in one `log_batch` call."""
MAX_PARAMS: Final = 100
MAX_TAGS: Final = 100


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to create. started: milliseconds since 1970, UTC. dataset: the run's MLflow input."""

    experiment_id: str
    name: str
    tags: Mapping[str, str]
    started: int
    dataset: DatasetInput | None = None


@dataclass(frozen=True, slots=True)
class CreatedRun:
    """artifacts: the URI of the run's files."""

    run_id: str
    artifacts: str


class ClientBackend:
    """Writes through MLflow's client. Each call is a request, and is stored when it returns.

    uri: the store's address with its credentials; never shown. pending_rows: the number of rows
    that the next `commit` writes.
    """

    pending_rows = 0

    def __init__(self, store: Store) -> None:
        self.uri = store.uri
        self._client = store.client

    def create(self, new: NewRun) -> CreatedRun:
        create, tags = self._client.create_run, dict(new.tags)
        run = with_retries(
            "create a run", create, new.experiment_id, new.started, tags, run_name=new.name
        )
        if new.dataset is not None:
            log = self._client.log_inputs
            with_retries("write to a run", log, run.info.run_id, [new.dataset])
        return CreatedRun(run.info.run_id, run.info.artifact_uri)

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics: list[Any] = [Metric(*point) for point in points]
        all_params = [Param(key, value) for key, value in (params or {}).items()]
        all_tags = [RunTag(key, value) for key, value in (tags or {}).items()]
        for batch in split_into_batches(metrics, all_params, all_tags):
            log = self._client.log_batch
            with_retries("write to a run", log, run_id, *batch, synchronous=True)

    def end(self, run_id: str, status: str, end: int) -> None:
        """Closes a run. end: milliseconds since 1970, UTC."""
        with_retries("close a run", self._client.set_terminated, run_id, status, end)

    def commit(self) -> None:
        """Does nothing: this backend buffers no rows."""


def split_into_batches(
    metrics: Sequence[T], params: Sequence[T], tags: Sequence[T]
) -> Iterator[tuple[list[T], list[T], list[T]]]:
    """Yields the metrics, params and tags of as few `log_batch` calls as MLflow's limits allow.

    Tags come last, so that the tag that says that a run has ended is written after everything else.
    """
    metric, param, tag = iter(metrics), iter(params), iter(tags)
    remaining = len(metrics) + len(params) + len(tags)
    while remaining:
        some_params = list(islice(param, MAX_PARAMS))
        some_metrics = list(islice(metric, MAX_ENTITIES - len(some_params)))
        space = MAX_ENTITIES - len(some_params) - len(some_metrics)
        remaining -= len(some_params) + len(some_metrics)
        only_tags_remain = remaining <= len(tags)
        some_tags = list(islice(tag, min(MAX_TAGS, space))) if only_tags_remain else []
        remaining -= len(some_tags)
        yield some_metrics, some_params, some_tags
