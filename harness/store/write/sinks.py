"""Where what runs hold goes: through MLflow's client call by call, or, where MLflow's database is
at hand, into its tables, many runs at once (`tables.py`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.write.batches import batches

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Run

Point = tuple[str, float, int, int]
"""A value of a metric: name, value (finite), milliseconds since 1970, step."""


@dataclass(frozen=True, slots=True)
class NewRun:
    """A run to open. started: milliseconds since 1970, UTC. dataset: what it is trained on."""

    experiment_id: str
    name: str
    tags: Mapping[str, str]
    started: int
    dataset: DatasetInput | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """An opened run. artifacts: where its files go, as MLflow writes it."""

    run_id: str
    artifacts: str


class Sink(Protocol):
    """Takes what runs are to hold. It may keep it back until `commit`; a process that is killed
    before leaves each run as it was at some commit, never in between.

    Each metric's value is handed over once. Every method raises StoreError where the store cannot
    be written. Not thread-safe.
    """

    @property
    def uri(self) -> str:
        """The store's, with its credentials; never shown."""
        ...

    @property
    def waiting(self) -> int:
        """Rows that were handed over and are not in the store."""
        ...

    def create(self, new: NewRun) -> Place: ...

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None: ...

    def end(self, run_id: str, status: str, end: int) -> None: ...

    def after(self, job: Callable[[], None]) -> None:
        """Do `job` once everything that was handed over so far is in the store."""
        ...

    def commit(self) -> None: ...


class ClientSink:
    """Every call is a request of the client, and in the store when it returns."""

    waiting = 0

    def __init__(self, store: Store) -> None:
        self.uri = store.uri
        self._store = store

    def create(self, new: NewRun) -> Place:
        run: Run = with_retries(
            "create a run",
            lambda: self._store.client.create_run(
                new.experiment_id,
                start_time=new.started,
                tags=dict(new.tags),
                run_name=new.name,
            ),
        )
        run_id, dataset = run.info.run_id, new.dataset
        if dataset is not None:
            with_retries("write to a run", lambda: self._store.client.log_inputs(run_id, [dataset]))
        return Place(run_id, run.info.artifact_uri)

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        metrics = [Metric(*point) for point in points]
        given = [Param(key, value) for key, value in (params or {}).items()]
        marks = [RunTag(key, value) for key, value in (tags or {}).items()]
        for batch in batches(metrics, given, marks):
            with_retries(
                "write to a run",
                lambda batch=batch: self._store.client.log_batch(  # type: ignore[misc]
                    run_id, batch.metrics, batch.params, batch.tags, synchronous=True
                ),
            )

    def end(self, run_id: str, status: str, end: int) -> None:
        with_retries(
            "close a run",
            lambda: self._store.client.set_terminated(run_id, status, end_time=end),
        )

    def after(self, job: Callable[[], None]) -> None:
        job()

    def commit(self) -> None:
        """Nothing is kept back."""


def open_sink(store: Store) -> Sink:
    """The quickest that this store allows."""
    from harness.store.write.tables import TableSink

    return TableSink.of(store) or ClientSink(store)
