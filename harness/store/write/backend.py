"""Where the rows of runs are written: the interface, and the backend that uses MLflow's client.

`sql_backend` has the other backend, which writes into the tables of MLflow's own database.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

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


class Backend(Protocol):
    """Writes runs into the store.

    A backend may hold rows back until `commit`. If the process is killed earlier, each run is as
    some commit left it. Callers pass each value of a metric once. Every method raises StoreError
    if the store cannot be written. Not thread-safe.
    """

    @property
    def uri(self) -> str:
        """The store's address with its credentials; never shown."""
        ...

    @property
    def pending_rows(self) -> int:
        """The number of rows that the next `commit` writes."""
        ...

    def create(self, new: NewRun) -> CreatedRun: ...

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None: ...

    def end(self, run_id: str, status: str, end: int) -> None:
        """Closes a run. end: milliseconds since 1970, UTC."""
        ...

    def commit(self) -> None: ...


class ClientBackend:
    """Writes through MLflow's client. Each call is a request, and is stored when it returns."""

    pending_rows = 0

    def __init__(self, store: Store) -> None:
        self.uri = store.uri
        self._client = store.client

    def create(self, new: NewRun) -> CreatedRun:
        run: Run = with_retries(
            "create a run",
            lambda: self._client.create_run(
                new.experiment_id, start_time=new.started, tags=dict(new.tags), run_name=new.name
            ),
        )
        run_id, dataset = run.info.run_id, new.dataset
        if dataset is not None:
            with_retries("write to a run", lambda: self._client.log_inputs(run_id, [dataset]))
        return CreatedRun(run_id, run.info.artifact_uri)

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        batches = split_into_batches(
            [Metric(*point) for point in points],
            [Param(key, value) for key, value in (params or {}).items()],
            [RunTag(key, value) for key, value in (tags or {}).items()],
        )
        for batch in batches:
            with_retries("write to a run", lambda batch=batch: self._log_batch(run_id, *batch))  # type: ignore[misc]

    def _log_batch(self, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        self._client.log_batch(run_id, metrics, params, tags, synchronous=True)

    def end(self, run_id: str, status: str, end: int) -> None:
        with_retries(
            "close a run", lambda: self._client.set_terminated(run_id, status, end_time=end)
        )

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
