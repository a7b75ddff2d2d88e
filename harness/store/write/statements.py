"""Statements for MLflow's tables that write many rows at once and may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

Row = dict[str, Any]
Values = tuple[Any, ...]

LOCK_MILLISECONDS = 20_000
"""How long one try waits for a locked SQLite file; `persist` tries again."""

CACHE_KIB = 1 << 16
"""Of SQLite's pages, for each connection: a point goes into four indices, and those of some hundred
thousand points do not fit into its usual two megabytes, which costs a third of the time."""

LOG_PAGES = 4000
"""Of SQLite's write-ahead log, between two times that it is taken into the database: the pages of
indices are written again and again, and then once for all."""

METRIC = ("key", "value", "timestamp", "step", "is_nan", "run_uuid")
"""The order of a point's columns in a row that is a tuple: there are too many for dicts."""


class Statements:
    """Inserts that may be repeated."""

    def __init__(self, engine: Engine) -> None:
        from sqlalchemy.dialects import postgresql, sqlite

        self._engine = engine
        self._insert: Any = {"sqlite": sqlite, "postgresql": postgresql}[engine.dialect.name].insert
        self._texts: dict[str, tuple[str, Callable[[Values], Values]]] = {}

    def insert(self, connection: Connection, table: Any, rows: list[Row]) -> None:
        """Rows that are there already stay as they are."""
        if rows:
            connection.execute(self._insert(table).on_conflict_do_nothing(), rows)

    def put(self, connection: Connection, table: Any, rows: list[Row]) -> None:
        """Values that are there already are replaced."""
        if rows:
            statement = self._insert(table)
            changed = {"value": statement.excluded.value}
            keys = list(table.primary_key.columns)
            connection.execute(
                statement.on_conflict_do_update(index_elements=keys, set_=changed), rows
            )

    def measured(self, connection: Connection, table: Any, rows: list[Values]) -> None:
        """As `insert`, of points in the order of `METRIC`."""
        self._many(connection, self._insert(table).on_conflict_do_nothing(), rows)

    def newest(self, connection: Connection, table: Any, rows: list[Values]) -> None:
        """As `measured`, where the new one is later by step, time and value: MLflow's rule."""
        from sqlalchemy import tuple_

        statement = self._insert(table)
        names = ("step", "timestamp", "value")
        new = tuple_(*(statement.excluded[name] for name in names))
        old = tuple_(*(table.c[name] for name in names))
        changed = {name: statement.excluded[name] for name in (*names, "is_nan")}
        keys = list(table.primary_key.columns)
        self._many(
            connection,
            statement.on_conflict_do_update(index_elements=keys, set_=changed, where=new > old),
            rows,
        )

    def _many(self, connection: Connection, statement: Any, rows: list[Values]) -> None:
        """SQLite takes tuples as they are; SQLAlchemy would make each a dict and a tuple again.
        PostgreSQL's driver wants many rows in one statement, as SQLAlchemy makes them."""
        if not rows:
            return
        if self._engine.dialect.name != "sqlite":
            connection.execute(statement, [dict(zip(METRIC, row, strict=True)) for row in rows])
            return
        table = statement.table.name
        if table not in self._texts:
            compiled = statement.compile(self._engine, column_keys=list(METRIC))
            places = [METRIC.index(name) for name in compiled.positiontup]
            self._texts[table] = (str(compiled), itemgetter(*places))
        text, ordered = self._texts[table]
        connection.exec_driver_sql(text, list(map(ordered, rows)))

    def end(self, connection: Connection, runs: Any, ends: list[Row]) -> None:
        """ends: `run`, `ended` (its status) and `at`."""
        from sqlalchemy import bindparam, update

        if ends:
            statement = (
                update(runs)
                .where(runs.c.run_uuid == bindparam("run"))
                .values(status=bindparam("ended"), end_time=bindparam("at"))
            )
            connection.execute(statement, ends)


@contextmanager
def transaction(engine: Any) -> Iterator[Connection]:
    """Raises MlflowException, as MLflow's own sessions do, so that one place tells what passes."""
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
