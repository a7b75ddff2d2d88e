"""Reads runs from the tables of MLflow's SQLite database.

MLflow's own search builds every metric, param and tag of every run, at about 2 ms a run; these
queries are some 60 times as fast. Every method raises sqlite3.Error if the tables are not those of
the MLflow release that these queries were written for.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from harness.core.metrics import BEST
from harness.core.records import FINISHED
from harness.store import names
from harness.store.read.runs import (
    SUMMARY_METRICS,
    SUMMARY_PREFIXES,
    TAG_PREFIXES,
    MetricPoint,
    RunSummary,
    StoredRun,
    latest_of_each_trial,
)

BUSY_SECONDS = 20.0
"""How long a query waits for a database that is locked."""
RUNS_A_QUERY = 500
"""Below SQLite's limit of variables in one statement."""


@dataclass(frozen=True, slots=True)
class TableReader:
    """Reads a database file, and never changes or creates it.

    busy_seconds: how long a query waits while another process has locked the database.
    """

    database: Path
    busy_seconds: float = BUSY_SECONDS

    def experiment_id(self, name: str) -> str | None:
        """Returns the id of the experiment of this name, deleted ones included, or None."""
        with self._connect() as connection:
            query = "SELECT experiment_id FROM experiments WHERE name = ?"
            row = connection.execute(query, (name,)).fetchone()
        return None if row is None else str(row[0])

    def latest_runs(self, experiment_id: str) -> dict[str, RunSummary]:
        """See `ClientReader`."""
        with self._connect() as connection:
            rows = connection.execute(_SUMMARIES, {"experiment": int(experiment_id)}).fetchall()
        return latest_of_each_trial(RunSummary.of(*row) for row in rows)

    def finished_by_code(self, experiment_id: str) -> dict[str, int]:
        """See `ClientReader`."""
        with self._connect() as connection:
            return dict(connection.execute(_BY_CODE, (int(experiment_id),)).fetchall())

    def runs(self, experiment_id: str) -> list[StoredRun]:
        """See `ClientReader`."""
        with self._connect() as connection:
            connection.execute("BEGIN")  # All queries see the same moment.
            values = (int(experiment_id),)
            runs = {row[0]: StoredRun(*row) for row in connection.execute(_RUNS, values)}
            for run_id, key, value in connection.execute(_PARAMS, values):
                runs[run_id].params[key] = value
            for run_id, key, value in connection.execute(_METRICS, values):
                runs[run_id].metrics[key] = value
            for run_id, key, value in connection.execute(_TAGS, values):
                runs[run_id].tags[key] = value
            digests = connection.execute(_DIGESTS, values).fetchall()
        for run_id, digest in digests:
            run = runs[run_id]
            runs[run_id] = replace(run, data=f"{run.data}+{digest}" if run.data else digest)
        return list(runs.values())

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """See `ClientReader`."""
        points: list[MetricPoint] = []
        with self._connect() as connection:
            for start in range(0, len(run_ids), RUNS_A_QUERY):
                some = run_ids[start : start + RUNS_A_QUERY]
                points += connection.execute(
                    "SELECT run_uuid, key, step, value FROM metrics "  # noqa: S608 - only marks
                    f"WHERE run_uuid IN ({_marks(some)}) AND key IN ({_marks(metrics)}) "
                    "AND NOT is_nan",
                    [*some, *metrics],
                )
        return points

    def run_ids(self) -> list[str]:
        """Returns the ids of all runs, deleted ones too; none if the file is no MLflow database.

        SQLite itself decides whether it is a database: to open and close the file here would drop
        the locks that this process has on it.
        """
        with self._connect() as connection:
            try:
                has_runs = "SELECT 1 FROM sqlite_schema WHERE name = 'runs'"
                if connection.execute(has_runs).fetchone() is None:
                    return []
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                    return []
                raise
            return [row[0] for row in connection.execute("SELECT run_uuid FROM runs")]

    def damage(self) -> str:
        """Returns the damage that SQLite's quick check reports, or "" if there is none."""
        with self._connect() as connection:
            try:
                messages = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
            except sqlite3.Error as error:
                return str(error)
        return "" if messages == ["ok"] else "; ".join(messages)

    def repeated_values(self) -> tuple[int, int]:
        """Counts values that are stored twice for one run, metric and step, and steps that have
        two different values."""
        with self._connect() as connection:
            same = f"SELECT COUNT(*) FROM ({REPEATED_ROWS})"  # noqa: S608 - a constant
            counts = (connection.execute(query).fetchone()[0] for query in (same, _CONTRADICTED))
            first, second = (int(count) for count in counts)
        return first, second

    def _connect(self) -> closing[sqlite3.Connection]:
        return open_for_reading(self.database, self.busy_seconds)


def open_for_reading(
    database: Path, busy_seconds: float = BUSY_SECONDS
) -> closing[sqlite3.Connection]:
    """Opens a database file, which must exist, without changing it."""
    uri = f"{database.as_uri()}?mode=ro"
    return closing(sqlite3.connect(uri, uri=True, timeout=busy_seconds))


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


_SUMMARIES = f"""
SELECT runs.run_uuid, trial.value, outcome.value, best.value, artifacts.value, runs.start_time
FROM runs
JOIN tags kind ON kind.run_uuid = runs.run_uuid AND kind.key = '{names.TAG_KIND}'
JOIN params trial ON trial.run_uuid = runs.run_uuid AND trial.key = '{names.PARAM_TRIAL}'
LEFT JOIN tags outcome ON outcome.run_uuid = runs.run_uuid AND outcome.key = '{names.TAG_OUTCOME}'
LEFT JOIN tags gone ON gone.run_uuid = runs.run_uuid AND gone.key = '{names.TAG_SUPERSEDED}'
LEFT JOIN tags artifacts
    ON artifacts.run_uuid = runs.run_uuid AND artifacts.key = '{names.TAG_ARTIFACTS}'
LEFT JOIN tags metric ON metric.run_uuid = runs.run_uuid AND metric.key = '{names.TAG_METRIC}'
LEFT JOIN latest_metrics best
    ON best.run_uuid = runs.run_uuid AND best.key = '{BEST}' || metric.value
WHERE runs.experiment_id = :experiment AND runs.lifecycle_stage = 'active'
    AND kind.value = '{names.TRIAL}' AND gone.key IS NULL
"""  # noqa: S608 - made of this package's constants
_OF_EXPERIMENT = "r.experiment_id = ? AND r.lifecycle_stage = 'active'"
_RUNS = f"""
SELECT r.run_uuid, COALESCE(r.name, ''), r.status, COALESCE(r.start_time, 0),
    COALESCE(r.artifact_uri, '') FROM runs r
WHERE {_OF_EXPERIMENT} ORDER BY r.start_time, r.run_uuid
"""  # noqa: S608
_PARAMS = f"""
SELECT p.run_uuid, p.key, p.value FROM runs r JOIN params p ON p.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT}
"""  # noqa: S608
_METRICS = f"""
SELECT m.run_uuid, m.key, m.value FROM runs r JOIN latest_metrics m ON m.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} AND NOT m.is_nan AND (
    {" OR ".join(f"m.key LIKE '{prefix}%'" for prefix in SUMMARY_PREFIXES)}
    OR m.key IN ({", ".join(f"'{name}'" for name in SUMMARY_METRICS)})
)
"""  # noqa: S608
_TAGS = f"""
SELECT t.run_uuid, t.key, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} AND ({" OR ".join(f"t.key LIKE '{prefix}%'" for prefix in TAG_PREFIXES)})
"""  # noqa: S608
_BY_CODE = f"""
SELECT code.value, COUNT(*) FROM runs r
JOIN tags code ON code.run_uuid = r.run_uuid AND code.key = '{names.TAG_CODE}'
JOIN tags outcome ON outcome.run_uuid = r.run_uuid AND outcome.key = '{names.TAG_OUTCOME}'
    AND outcome.value IN ({", ".join(f"'{outcome}'" for outcome in sorted(FINISHED))})
LEFT JOIN tags gone ON gone.run_uuid = r.run_uuid AND gone.key = '{names.TAG_SUPERSEDED}'
WHERE {_OF_EXPERIMENT} AND gone.key IS NULL GROUP BY code.value
"""  # noqa: S608
_DIGESTS = f"""
SELECT DISTINCT r.run_uuid, d.digest FROM runs r
JOIN inputs i ON i.destination_id = r.run_uuid
    AND i.destination_type = 'RUN' AND i.source_type = 'DATASET'
JOIN datasets d ON d.dataset_uuid = i.source_id
WHERE {_OF_EXPERIMENT} ORDER BY d.digest
"""  # noqa: S608
# One pass in the order of an index: a join of the table with itself takes minutes of a large store.
REPEATED_ROWS = """
SELECT number FROM (
    SELECT rowid AS number, ROW_NUMBER() OVER (
        PARTITION BY run_uuid, key, step, value, is_nan ORDER BY timestamp, rowid
    ) AS place FROM metrics
) WHERE place > 1
"""
"""Row numbers of values that repeat an earlier one."""
_CONTRADICTED = (
    "SELECT COUNT(*) FROM (SELECT 1 FROM metrics GROUP BY run_uuid, key, step "
    "HAVING COUNT(DISTINCT value) > 1)"
)
