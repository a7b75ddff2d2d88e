"""Writes many runs in one transaction, into the tables of MLflow's own database.

MLflow's client takes some ten transactions per run and builds an object for each value; here a
batch of runs is one transaction. The rows are those that the client writes:
`tests/store/test_tables.py` compares them one by one.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final

from harness.core.errors import StoreError
from harness.store.retry import with_retries
from harness.store.store import Store
from harness.store.write.backend import CreatedRun, NewRun, Point

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine, Table

Row = dict[str, Any]
Values = tuple[Any, ...]

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
"""MLflow's tables with all their columns, as this module knows them."""

METRIC_COLUMNS: Final = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")
"""The order of the values in a metric's row. It is a tuple: there are too many rows for dicts."""

LOCK_MILLISECONDS: Final = 20_000
"""How long one try waits for a locked SQLite file; `with_retries` tries again."""

CACHE_KIB: Final = 1 << 16
"""SQLite's page cache of each connection. A value goes into four indices, and the indices of some
100,000 values do not fit into the usual 2 MB, which costs a third of the time."""

LOG_PAGES: Final = 4000
"""Pages of SQLite's write-ahead log before it is copied into the database. Pages of indices are
written again and again; with a longer log they are copied once."""


@dataclass(slots=True)
class _Batch:
    """The rows of the next commit. runs, latest and tags: by their keys in the database. metrics
    and latest: in the order of `METRIC_COLUMNS`. ends: of runs that are stored already."""

    runs: dict[str, Row] = field(default_factory=dict)
    ends: list[Row] = field(default_factory=list)
    params: list[Row] = field(default_factory=list)
    metrics: list[Values] = field(default_factory=list)
    latest: dict[str, dict[str, Values]] = field(default_factory=dict)
    tags: dict[tuple[str, str], Row] = field(default_factory=dict)
    inputs: list[tuple[str, str, Any]] = field(default_factory=list)

    def __len__(self) -> int:
        tables = (self.runs, self.ends, self.params, self.metrics, self.tags, self.inputs)
        return sum(len(rows) for rows in tables)


class SqlBackend:
    """Holds all rows back until `commit`, which writes them whole or not at all.

    A commit that is tried again, because its answer was lost, writes nothing twice. Two processes
    may write to one database, but never to one run.
    """

    def __init__(self, mlflow_store: Any) -> None:
        """mlflow_store: an open SqlAlchemyStore of MLflow on SQLite or PostgreSQL; see `of`."""
        self.uri = str(mlflow_store.db_uri)
        self._mlflow_store = mlflow_store
        self._upserts = _Upserts(mlflow_store.engine)
        self._tables: Mapping[str, Table] = _mlflow_tables()
        self._artifacts: dict[str, str] = {}
        self._datasets: dict[tuple[str, str, str], str] = {}
        self._valid_metrics: set[str] = set()
        self._batch = _Batch()

    @classmethod
    def of(cls, store: Store) -> SqlBackend | None:
        """Returns None if the store is a server, or MLflow's tables are not those in `COLUMNS`."""
        try:
            from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

            mlflow_store = store.client._tracking_client.store
        except (ImportError, AttributeError):
            return None
        if type(mlflow_store) is not SqlAlchemyStore:
            return None
        if mlflow_store.engine.dialect.name not in ("sqlite", "postgresql"):
            return None
        return cls(mlflow_store) if _has_known_tables() else None

    @property
    def pending_rows(self) -> int:
        return len(self._batch)

    def create(self, new: NewRun) -> CreatedRun:
        from mlflow.utils.uri import append_to_uri_path

        run_id = uuid.uuid4().hex
        home = self._artifacts.get(new.experiment_id) or self._artifact_home(new.experiment_id)
        folder = self._mlflow_store.ARTIFACTS_FOLDER_NAME
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
        self._add_tags(run_id, {**new.tags, "mlflow.runName": new.name})
        if new.dataset is not None:
            self._batch.inputs.append((run_id, new.experiment_id, new.dataset))
        return CreatedRun(run_id, artifacts)

    def write(
        self,
        run_id: str,
        points: Sequence[Point] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        self._add_metrics(run_id, points)
        if params:
            self._batch.params += [
                {"key": key, "value": value, "run_uuid": run_id}
                for key, value in with_retries("write to a run", lambda: _checked_params(params))
            ]
        if tags:
            self._add_tags(run_id, tags)

    def end(self, run_id: str, status: str, end: int) -> None:
        run = self._batch.runs.get(run_id)
        if run is not None:
            run |= {"status": status, "end_time": end}
        else:
            self._batch.ends.append({"run": run_id, "ended": status, "at": end})

    def commit(self) -> None:
        if len(self._batch):
            with_retries("write to the store", self._commit)
        self._batch = _Batch()

    def _add_metrics(self, run_id: str, points: Sequence[Point]) -> None:
        rows = [(name, value, at, step, False, run_id) for name, value, at, step in points]
        self._batch.metrics += rows
        latest = self._batch.latest.setdefault(run_id, {})
        for row in rows:
            before = latest.get(row[0])
            # Compare steps first: they mostly decide.
            if before is None or row[3] > before[3] or _recency(row) > _recency(before):
                latest[row[0]] = row
        new_names = {row[0] for row in rows} - self._valid_metrics
        if new_names:
            with_retries("write to a run", lambda: _check_metrics(new_names))
            self._valid_metrics |= new_names

    def _add_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        for key, value in with_retries("write to a run", lambda: _checked_tags(tags)):
            self._batch.tags[run_id, key] = {"key": key, "value": value, "run_uuid": run_id}

    def _artifact_home(self, experiment_id: str) -> str:
        """Returns where an experiment's files are. Raises StoreError if it was deleted."""
        experiment = with_retries(
            "create a run", lambda: self._mlflow_store.get_experiment(experiment_id)
        )
        if experiment.lifecycle_stage != "active":
            raise StoreError(f"cannot create a run: the experiment {experiment.name!r} was deleted")
        return self._artifacts.setdefault(experiment_id, str(experiment.artifact_location))

    def _commit(self) -> None:
        batch, tables, upserts = self._batch, self._tables, self._upserts
        for _, experiment_id, dataset in batch.inputs:
            self._register_dataset(experiment_id, dataset)
        with _transaction(self._mlflow_store.engine) as connection:
            upserts.insert(connection, tables["runs"], list(batch.runs.values()))
            upserts.end(connection, tables["runs"], batch.ends)
            upserts.insert(connection, tables["params"], batch.params)
            upserts.insert_metrics(connection, tables["metrics"], batch.metrics)
            latest = [row for rows in batch.latest.values() for row in rows.values()]
            upserts.put_latest(connection, tables["latest_metrics"], latest)
            upserts.put(connection, tables["tags"], list(batch.tags.values()))
            self._link_datasets(connection)

    def _register_dataset(self, experiment_id: str, dataset_input: Any) -> None:
        """Inserts the data set into its table, unless another process has already done so for the
        experiment. Uses a separate transaction, since both may do it at the same time."""
        from sqlalchemy import select

        dataset, table = dataset_input.dataset, self._tables["datasets"]
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
        with _transaction(self._mlflow_store.engine) as connection:
            self._upserts.insert(connection, table, [row])
            stored_ids = connection.execute(select(table.c.dataset_uuid).where(*same))
            self._datasets[key] = str(stored_ids.scalar_one())

    def _link_datasets(self, connection: Connection) -> None:
        """Links runs to the data sets that they were trained on."""
        links, tags = [], []
        for run_id, experiment_id, dataset_input in self._batch.inputs:
            dataset = dataset_input.dataset
            source = self._datasets[experiment_id, dataset.name, dataset.digest]
            # The id is a hash of both ends of the link, so that a second try makes the same row.
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
            tags += [
                {"input_uuid": link, "name": tag.key, "value": tag.value}
                for tag in dataset_input.tags
            ]
        self._upserts.insert(connection, self._tables["inputs"], links)
        self._upserts.insert(connection, self._tables["input_tags"], tags)


class _Upserts:
    """Statements that write many rows at once and may be repeated."""

    def __init__(self, engine: Engine) -> None:
        from sqlalchemy.dialects import postgresql, sqlite

        self._engine = engine
        self._insert: Any = {"sqlite": sqlite, "postgresql": postgresql}[engine.dialect.name].insert
        self._compiled: dict[str, tuple[str, Callable[[Values], Values]]] = {}

    def insert(self, connection: Connection, table: Any, rows: list[Row]) -> None:
        """Inserts rows; rows that are stored already stay as they are."""
        if rows:
            connection.execute(self._insert(table).on_conflict_do_nothing(), rows)

    def put(self, connection: Connection, table: Any, rows: list[Row]) -> None:
        """Inserts rows; values that are stored already are replaced."""
        if rows:
            statement = self._insert(table)
            changed = {"value": statement.excluded.value}
            keys = list(table.primary_key.columns)
            connection.execute(
                statement.on_conflict_do_update(index_elements=keys, set_=changed), rows
            )

    def insert_metrics(self, connection: Connection, table: Any, rows: list[Values]) -> None:
        self._execute(connection, self._insert(table).on_conflict_do_nothing(), rows)

    def put_latest(self, connection: Connection, table: Any, rows: list[Values]) -> None:
        """Inserts metrics; a stored one is replaced if the new one is later by step, time and
        value, which is MLflow's rule."""
        from sqlalchemy import tuple_

        statement = self._insert(table)
        names = ("step", "timestamp", "value")
        new = tuple_(*(statement.excluded[name] for name in names))
        old = tuple_(*(table.c[name] for name in names))
        changed = {name: statement.excluded[name] for name in (*names, "is_nan")}
        keys = list(table.primary_key.columns)
        self._execute(
            connection,
            statement.on_conflict_do_update(index_elements=keys, set_=changed, where=new > old),
            rows,
        )

    def _execute(self, connection: Connection, statement: Any, rows: list[Values]) -> None:
        """SQLite takes tuples as they are; SQLAlchemy would make each a dict and a tuple again.
        PostgreSQL's driver wants many rows in one statement, as SQLAlchemy makes them."""
        if not rows:
            return
        if self._engine.dialect.name != "sqlite":
            named = [dict(zip(METRIC_COLUMNS, row, strict=True)) for row in rows]
            connection.execute(statement, named)
            return
        table = statement.table.name
        if table not in self._compiled:
            compiled = statement.compile(self._engine, column_keys=list(METRIC_COLUMNS))
            positions = [METRIC_COLUMNS.index(name) for name in compiled.positiontup]
            self._compiled[table] = (str(compiled), itemgetter(*positions))
        text, in_order = self._compiled[table]
        connection.exec_driver_sql(text, list(map(in_order, rows)))

    def end(self, connection: Connection, runs: Any, ends: list[Row]) -> None:
        """Closes runs. ends: their `run` (id), `ended` (status) and `at`."""
        from sqlalchemy import bindparam, update

        if ends:
            statement = (
                update(runs)
                .where(runs.c.run_uuid == bindparam("run"))
                .values(status=bindparam("ended"), end_time=bindparam("at"))
            )
            connection.execute(statement, ends)


@contextmanager
def _transaction(engine: Engine) -> Iterator[Connection]:
    """Raises MlflowException, as MLflow's own sessions do, so that `with_retries` knows what may
    pass."""
    from mlflow.exceptions import MlflowException
    from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE
    from sqlalchemy.exc import OperationalError, SQLAlchemyError

    try:
        with engine.begin() as connection:
            if engine.dialect.name == "sqlite":
                connection.exec_driver_sql("PRAGMA foreign_keys = ON")
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {LOCK_MILLISECONDS}")
                connection.exec_driver_sql(f"PRAGMA cache_size = -{CACHE_KIB}")
                connection.exec_driver_sql(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
            yield connection
    except OperationalError as error:
        raise MlflowException(str(error), TEMPORARILY_UNAVAILABLE) from error
    except SQLAlchemyError as error:
        raise MlflowException(str(error), BAD_REQUEST) from error


def _recency(row: Values) -> Values:
    """What decides which of two values of a metric is the later: step, time and value."""
    return row[3], row[2], row[1]


def _mlflow_tables() -> Mapping[str, Any]:
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.tracking.dbmodels import models  # noqa: F401 - fills Base

    return {name: table for name, table in Base.metadata.tables.items() if name in COLUMNS}


def _has_known_tables() -> bool:
    """Whether MLflow's tables have the columns of `COLUMNS`, and no other."""
    try:
        columns = {
            name: frozenset(table.columns.keys()) for name, table in _mlflow_tables().items()
        }
    except (ImportError, AttributeError):
        return False
    return columns == COLUMNS


def _checked_params(params: Mapping[str, str]) -> list[tuple[str, str]]:
    from mlflow.utils.validation import _validate_param

    checked = (_validate_param(*pair) for pair in params.items())  # type: ignore[no-untyped-call]
    return [(param.key, param.value) for param in checked]


def _checked_tags(tags: Mapping[str, str]) -> list[tuple[str, str]]:
    from mlflow.utils.validation import _validate_tag

    checked = (_validate_tag(*pair) for pair in tags.items())  # type: ignore[no-untyped-call]
    return [(tag.key, tag.value) for tag in checked]


def _check_metrics(names: set[str]) -> None:
    from mlflow.utils.validation import _validate_metric_name

    for name in names:
        _validate_metric_name(name)  # type: ignore[no-untyped-call]
