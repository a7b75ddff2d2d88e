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
from harness.store.write.backend import ClientBackend, CreatedRun, NewRun, Point

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

    def __init__(self, mlflow_store: Any, tables: Mapping[str, Table]) -> None:
        """mlflow_store: an open SqlAlchemyStore of MLflow on SQLite or PostgreSQL; see `of`.
        tables: those of `COLUMNS`."""
        self.uri = str(mlflow_store.db_uri)
        self._mlflow_store = mlflow_store
        self._tables = tables
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
        tables = _known_tables()
        return None if tables is None else cls(mlflow_store, tables)

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
        from mlflow.utils.validation import _validate_param

        self._add_metrics(run_id, points)
        self._batch.params += with_retries(
            "write to a run", _checked_rows, _validate_param, run_id, params or {}
        )
        self._add_tags(run_id, tags or {})

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
        from mlflow.utils.validation import _validate_metric_name

        rows = [(name, value, at, step, False, run_id) for name, value, at, step in points]
        self._batch.metrics += rows
        latest = self._batch.latest.setdefault(run_id, {})
        for row in rows:
            before = latest.get(row[0])
            # Compare steps first: they mostly decide.
            if before is None or row[3] > before[3] or _recency(row) > _recency(before):
                latest[row[0]] = row
        for name in {row[0] for row in rows} - self._valid_metrics:
            with_retries("write to a run", _validate_metric_name, name)
            self._valid_metrics.add(name)

    def _add_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        from mlflow.utils.validation import _validate_tag

        for row in with_retries("write to a run", _checked_rows, _validate_tag, run_id, tags):
            self._batch.tags[run_id, row["key"]] = row

    def _artifact_home(self, experiment_id: str) -> str:
        """Returns where an experiment's files are. Raises StoreError if it was deleted."""
        find = self._mlflow_store.get_experiment
        experiment = with_retries("create a run", find, experiment_id)
        if experiment.lifecycle_stage != "active":
            raise StoreError(f"cannot create a run: the experiment {experiment.name!r} was deleted")
        return self._artifacts.setdefault(experiment_id, str(experiment.artifact_location))

    def _commit(self) -> None:
        batch, tables = self._batch, self._tables
        for _, experiment_id, dataset in batch.inputs:
            self._register_dataset(experiment_id, dataset)
        with _transaction(self._mlflow_store.engine) as connection:
            _insert(connection, tables["runs"], list(batch.runs.values()))
            _end_runs(connection, tables["runs"], batch.ends)
            _insert(connection, tables["params"], batch.params)
            _insert(connection, tables["metrics"], batch.metrics)
            latest = [row for rows in batch.latest.values() for row in rows.values()]
            _put_latest(connection, tables["latest_metrics"], latest)
            _put_tags(connection, tables["tags"], list(batch.tags.values()))
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
            _insert(connection, table, [row])
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
        _insert(connection, self._tables["inputs"], links)
        _insert(connection, self._tables["input_tags"], tags)


Backend = SqlBackend | ClientBackend


# The statements may be repeated.


def _insert(connection: Connection, table: Table, rows: Sequence[Any]) -> None:
    """Inserts rows; rows that are stored already stay as they are."""
    statement = _insert_statement(connection, table).on_conflict_do_nothing()
    _execute(connection, statement, rows)


def _put_tags(connection: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Inserts tags; values that are stored already are replaced."""
    statement = _insert_statement(connection, table)
    keys, changed = list(table.primary_key.columns), {"value": statement.excluded.value}
    statement = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    _execute(connection, statement, rows)


def _put_latest(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Inserts metrics; a stored one is replaced if the new one is later by step, time and value,
    which is MLflow's rule."""
    from sqlalchemy import tuple_

    statement = _insert_statement(connection, table)
    names = ("step", "timestamp", "value")
    new = tuple_(*(statement.excluded[name] for name in names))
    old = tuple_(*(table.c[name] for name in names))
    changed = {name: statement.excluded[name] for name in (*names, "is_nan")}
    statement = statement.on_conflict_do_update(
        index_elements=list(table.primary_key.columns), set_=changed, where=new > old
    )
    _execute(connection, statement, rows)


def _end_runs(connection: Connection, runs: Table, ends: Sequence[Row]) -> None:
    """Closes runs. ends: their `run` (id), `ended` (status) and `at`."""
    from sqlalchemy import bindparam, update

    statement = update(runs).where(runs.c.run_uuid == bindparam("run"))
    statement = statement.values(status=bindparam("ended"), end_time=bindparam("at"))
    _execute(connection, statement, ends)


def _insert_statement(connection: Connection, table: Table) -> Any:
    from sqlalchemy.dialects import postgresql, sqlite

    dialects = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
    return dialects[connection.dialect.name](table)


def _execute(connection: Connection, statement: Any, rows: Sequence[Any]) -> None:
    """Executes a statement for rows, if there are any; tuples are in the order of `METRIC_COLUMNS`.

    SQLite takes tuples as they are; SQLAlchemy would make each a dict and a tuple again.
    PostgreSQL's driver wants many rows in one statement, as SQLAlchemy makes them.
    """
    if not rows:
        return
    if isinstance(rows[0], dict):
        connection.execute(statement, rows)
    elif connection.dialect.name != "sqlite":
        named = [dict(zip(METRIC_COLUMNS, row, strict=True)) for row in rows]
        connection.execute(statement, named)
    else:
        compiled = statement.compile(connection, column_keys=list(METRIC_COLUMNS))
        in_order = itemgetter(*map(METRIC_COLUMNS.index, compiled.positiontup))
        connection.exec_driver_sql(str(compiled), list(map(in_order, rows)))


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


def _known_tables() -> Mapping[str, Table] | None:
    """Returns MLflow's tables if they have the columns of `COLUMNS` and no other, else None."""
    try:
        from mlflow.store.db.base_sql_model import Base
        from mlflow.store.tracking.dbmodels import models  # noqa: F401 - fills Base
    except ImportError:
        return None
    tables = {name: table for name, table in Base.metadata.tables.items() if name in COLUMNS}
    columns = {name: frozenset(table.columns.keys()) for name, table in tables.items()}
    return tables if columns == COLUMNS else None


def _checked_rows(
    validate: Callable[[str, str], Any], run_id: str, values: Mapping[str, str]
) -> list[Row]:
    """Returns the rows of params or tags that `validate` of MLflow accepts; it may cut a value."""
    checked = [validate(key, value) for key, value in values.items()]
    return [{"key": entity.key, "value": entity.value, "run_uuid": run_id} for entity in checked]
