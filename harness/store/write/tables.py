"""Writes many runs in one transaction, into the tables of MLflow's own database.

MLflow's client opens some ten transactions a run and builds an object for each point; here a batch
of runs is one. The rows are those that the client leaves (`tests/tracking/test_tables.py` compares
them one for one). Where MLflow's tables are not as they are known here, `TableSink.of` says so.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from harness.core.errors import StoreError
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.write.sinks import NewRun, Place, Point
from harness.store.write.statements import Row, Statements, Values, transaction

if TYPE_CHECKING:
    from sqlalchemy import Connection

COLUMNS: Mapping[str, frozenset[str]] = {
    table: frozenset(names.split())
    for table, names in {
        "runs": "run_uuid name source_type source_name entry_point_name user_id status start_time "
        "end_time deleted_time source_version lifecycle_stage artifact_uri experiment_id",
        "tags": "key value run_uuid",
        "params": "key value run_uuid",
        "metrics": "key value timestamp step is_nan run_uuid",
        "latest_metrics": "key value timestamp step is_nan run_uuid",
        "datasets": "dataset_uuid experiment_id name digest dataset_source_type dataset_source "
        "dataset_schema dataset_profile",
        "inputs": "input_uuid source_type source_id destination_type destination_id step",
        "input_tags": "input_uuid name value",
    }.items()
}
"""The tables as they are known here. MLflow itself refuses a database of another release."""


@dataclass(slots=True)
class _Batch:
    """What waits. runs, latest and tags: by their keys in the database. metrics, latest: in the
    order of `statements.METRIC`. ends: of runs that are there already. jobs: to be done after the
    commit."""

    runs: dict[str, Row] = field(default_factory=dict)
    ends: list[Row] = field(default_factory=list)
    params: list[Row] = field(default_factory=list)
    metrics: list[Values] = field(default_factory=list)
    latest: dict[str, dict[str, Values]] = field(default_factory=dict)
    tags: dict[tuple[str, str], Row] = field(default_factory=dict)
    inputs: list[tuple[str, str, Any]] = field(default_factory=list)
    jobs: list[Callable[[], None]] = field(default_factory=list)

    def __len__(self) -> int:
        kept = (self.runs, self.ends, self.params, self.metrics, self.tags, self.inputs)
        return sum(len(rows) for rows in kept)


class TableSink:
    """Keeps everything back until `commit`, which writes it whole or not at all.

    A commit that is tried again, because nobody knows whether it came through, writes nothing
    twice. Two processes may write to one database, never to one run.
    """

    def __init__(self, backend: Any) -> None:
        """backend: an open SqlAlchemyStore of MLflow on SQLite or PostgreSQL. See `of`."""
        from sqlalchemy import Table

        self.uri = str(backend.db_uri)
        self._backend = backend
        self._statements = Statements(backend.engine)
        self._tables: Mapping[str, Table] = _tables()
        self._artifacts: dict[str, str] = {}
        self._datasets: dict[tuple[str, str, str], str] = {}
        self._checked: set[str] = set()
        self._batch = _Batch()

    @classmethod
    def of(cls, store: Store) -> TableSink | None:
        """None where the store is a server, or MLflow's tables are not those known here."""
        try:
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            backend = store.client._tracking_client.store
        except (ImportError, AttributeError):
            return None
        if type(backend) is not SqlAlchemyStore:
            return None
        if backend.engine.dialect.name not in ("sqlite", "postgresql") or not _is_known():
            return None
        return cls(backend)

    @property
    def waiting(self) -> int:
        return len(self._batch)

    def create(self, new: NewRun) -> Place:
        from mlflow.utils.uri import append_to_uri_path

        run_id = uuid.uuid4().hex
        home = self._artifacts.get(new.experiment_id) or self._home(new.experiment_id)
        folder = self._backend.ARTIFACTS_FOLDER_NAME
        artifacts = append_to_uri_path(home, run_id, folder)  # type: ignore[no-untyped-call]
        self._batch.runs[run_id] = {
            "run_uuid": run_id,
            "name": new.name,
            "source_type": "UNKNOWN",
            "source_name": "",
            "entry_point_name": "",
            "user_id": new.tags.get("mlflow.user", "unknown"),
            "status": "RUNNING",
            "start_time": new.started,
            "end_time": None,
            "deleted_time": None,
            "source_version": "",
            "lifecycle_stage": "active",
            "artifact_uri": artifacts,
            "experiment_id": int(new.experiment_id),
        }
        self._tag(run_id, {**new.tags, "mlflow.runName": new.name})
        if new.dataset is not None:
            self._batch.inputs.append((run_id, new.experiment_id, new.dataset))
        return Place(run_id, artifacts)

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._measure(run_id, points)
        if params:
            self._batch.params += [
                {"key": key, "value": value, "run_uuid": run_id}
                for key, value in with_retries("write to a run", lambda: _valid_params(params))
            ]
        if tags:
            self._tag(run_id, tags)

    def end(self, run_id: str, status: str, end: int) -> None:
        run = self._batch.runs.get(run_id)
        if run is not None:
            run |= {"status": status, "end_time": end}
        else:
            self._batch.ends.append({"run": run_id, "ended": status, "at": end})

    def after(self, job: Callable[[], None]) -> None:
        self._batch.jobs.append(job)

    def commit(self) -> None:
        if len(self._batch):
            with_retries("write to the store", self._commit)
        done, self._batch = self._batch, _Batch()
        for job in done.jobs:
            job()

    def _measure(self, run_id: str, points: Sequence[Point]) -> None:
        rows = [(name, value, at, step, False, run_id) for name, value, at, step in points]
        self._batch.metrics += rows
        latest = self._batch.latest.setdefault(run_id, {})
        for row in rows:
            before = latest.get(row[0])
            # By step, time and value; by step alone where that decides, as it mostly does.
            if before is None or row[3] > before[3] or _age(row) > _age(before):
                latest[row[0]] = row
        self._check({row[0] for row in rows} - self._checked)

    def _check(self, names: set[str]) -> None:
        """Refuse a metric's name that MLflow would refuse."""
        if names:
            with_retries("write to a run", lambda: _valid_metrics(names))
            self._checked |= names

    def _tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        for key, value in with_retries("write to a run", lambda: _valid_tags(tags)):
            self._batch.tags[run_id, key] = {"key": key, "value": value, "run_uuid": run_id}

    def _home(self, experiment_id: str) -> str:
        """Where an experiment keeps its files. Raises StoreError where it was deleted."""
        found = with_retries("create a run", lambda: self._backend.get_experiment(experiment_id))
        if found.lifecycle_stage != "active":
            raise StoreError(f"cannot create a run: the experiment {found.name!r} was deleted")
        return self._artifacts.setdefault(experiment_id, str(found.artifact_location))

    def _commit(self) -> None:
        batch, tables, do = self._batch, self._tables, self._statements
        for _, experiment_id, dataset in batch.inputs:
            self._register(experiment_id, dataset)
        with transaction(self._backend.engine) as connection:
            do.insert(connection, tables["runs"], list(batch.runs.values()))
            do.end(connection, tables["runs"], batch.ends)
            do.insert(connection, tables["params"], batch.params)
            do.measured(connection, tables["metrics"], batch.metrics)
            latest = [row for rows in batch.latest.values() for row in rows.values()]
            do.newest(connection, tables["latest_metrics"], latest)
            do.put(connection, tables["tags"], list(batch.tags.values()))
            self._link(connection)

    def _register(self, experiment_id: str, given: Any) -> None:
        """Have the experiment's data set in its table, once, whoever writes it first. In a
        transaction of its own, since another process may be at the same."""
        from sqlalchemy import select

        dataset, table = given.dataset, self._tables["datasets"]
        key = (experiment_id, dataset.name, dataset.digest)
        if key in self._datasets:
            return
        row = {
            "dataset_uuid": uuid.uuid4().hex,
            "experiment_id": int(experiment_id),
            "name": dataset.name,
            "digest": dataset.digest,
            "dataset_source_type": dataset.source_type,
            "dataset_source": dataset.source,
            "dataset_schema": dataset.schema,
            "dataset_profile": dataset.profile,
        }
        same = [table.c[name] == row[name] for name in ("experiment_id", "name", "digest")]
        with transaction(self._backend.engine) as connection:
            self._statements.insert(connection, table, [row])
            found = connection.execute(select(table.c.dataset_uuid).where(*same))
            self._datasets[key] = str(found.scalar_one())

    def _link(self, connection: Connection) -> None:
        """Runs to the data they were trained on."""
        links, marks = [], []
        for run_id, experiment_id, given in self._batch.inputs:
            source = self._datasets[experiment_id, given.dataset.name, given.dataset.digest]
            # By what it links, so that a second try makes the same row.
            link = uuid.uuid5(uuid.NAMESPACE_OID, f"{source} {run_id}").hex
            links.append(
                {
                    "input_uuid": link,
                    "source_type": "DATASET",
                    "source_id": source,
                    "destination_type": "RUN",
                    "destination_id": run_id,
                }
            )
            marks += [{"input_uuid": link, "name": t.key, "value": t.value} for t in given.tags]
        self._statements.insert(connection, self._tables["inputs"], links)
        self._statements.insert(connection, self._tables["input_tags"], marks)


def _age(row: Values) -> Values:
    """What decides which of two points is the later: step, time and value."""
    return row[3], row[2], row[1]


def _tables() -> Mapping[str, Any]:
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels import models  # noqa: F401 - fills Base

    return {name: table for name, table in Base.metadata.tables.items() if name in COLUMNS}


def _is_known() -> bool:
    """Whether MLflow's tables have the columns that are written here, and no other."""
    try:
        found = {name: frozenset(table.columns.keys()) for name, table in _tables().items()}
    except (ImportError, AttributeError):
        return False
    return found == COLUMNS


def _valid_params(params: Mapping[str, str]) -> list[tuple[str, str]]:
    from mlflow.utils.validation import _validate_param

    found = (_validate_param(*pair) for pair in params.items())  # type: ignore[no-untyped-call]
    return [(param.key, param.value) for param in found]


def _valid_tags(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    from mlflow.utils.validation import _validate_tag

    found = (_validate_tag(*pair) for pair in tags.items())  # type: ignore[no-untyped-call]
    return [(tag.key, tag.value) for tag in found]


def _valid_metrics(names: set[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name

    for name in names:
        _validate_metric_name(name)  # type: ignore[no-untyped-call]
