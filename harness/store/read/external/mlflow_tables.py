"""Reads somebody else's runs from MLflow's SQLite database, which stays as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from harness.store.read.external.runs import LARGEST, BestStep, ExternalRun, finite_or
from harness.store.read.runs import MetricPoint
from harness.store.read.tables import TableReader, open_for_reading


@dataclass(frozen=True, slots=True)
class ExternalTables:
    """The tables of a database file. Every method raises sqlite3.Error if they are not MLflow's.

    `mlflow_client.ExternalClient` has the same methods for any other store.
    """

    database: Path

    def experiments(self) -> dict[str, str]:
        """Returns the id of every experiment that is not deleted, by its name."""
        query = "SELECT name, experiment_id FROM experiments WHERE lifecycle_stage = 'active'"
        with open_for_reading(self.database) as connection:
            return {name: str(number) for name, number in connection.execute(query)}

    def runs(self, experiment_id: str, metrics: Sequence[str]) -> list[ExternalRun]:
        """Returns all runs that are not deleted, the oldest first.

        metrics: of which each run has the last value.
        """
        values = {"experiment": int(experiment_id)}
        with open_for_reading(self.database) as connection:
            connection.execute("BEGIN")  # All queries see the same moment.
            runs = {row[0]: ExternalRun(*row) for row in connection.execute(_RUNS, values)}
            for run_id, key, value in connection.execute(_PARAMS, values):
                runs[run_id].params[key] = value
            for run_id, key, value in connection.execute(_TAGS, values):
                runs[run_id].tags[key] = value
            for metric in metrics:
                found = connection.execute(_LAST, values | {"metric": metric})
                for run_id, value, is_nan in found:
                    runs[run_id].metrics[metric] = nan if is_nan else finite_or(value, nan)
        return list(runs.values())

    def metric_names(self, experiment_id: str) -> list[str]:
        """Returns the names of all metrics of an experiment's runs."""
        with open_for_reading(self.database) as connection:
            rows = connection.execute(_METRICS, {"experiment": int(experiment_id)})
            return [row[0] for row in rows]

    def best_steps(
        self, experiment_id: str, metric: str, highest: bool, beside: str
    ) -> dict[str, BestStep]:
        """Returns the best finite value of each run that has one, of equals the earliest.

        highest: whether higher values are better. beside: the metric that is read at the same step.
        """
        query = _BEST.format(best="MAX" if highest else "MIN")
        values = {"experiment": int(experiment_id), "metric": metric, "beside": beside}
        best = {}
        with open_for_reading(self.database) as connection:
            for run_id, value, other, is_nan in connection.execute(query, values):
                missing = other is None or is_nan
                best[run_id] = BestStep(value, nan if missing else finite_or(other, nan))
        return best

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """Returns all points of these metrics of these runs that are numbers, in any order."""
        return TableReader(self.database).histories(run_ids, metrics)


_OF_EXPERIMENT = "r.experiment_id = :experiment AND r.lifecycle_stage = 'active'"
_RUNS = f"""
SELECT r.run_uuid, COALESCE(r.name, ''), r.status, COALESCE(r.start_time, 0) FROM runs r
WHERE {_OF_EXPERIMENT} ORDER BY r.start_time, r.run_uuid
"""  # noqa: S608 - made of this file's constants
_PARAMS = f"""
SELECT p.run_uuid, p.key, p.value FROM runs r JOIN params p ON p.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT}
"""  # noqa: S608
# MLflow's own tags may be long: the history of a run's models, or a note.
_TAGS = f"""
SELECT t.run_uuid, t.key, COALESCE(t.value, '') FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} AND t.key NOT IN ('mlflow.log-model.history', 'mlflow.note.content')
"""  # noqa: S608
_LAST = f"""
SELECT m.run_uuid, m.value, m.is_nan FROM runs r JOIN latest_metrics m ON m.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} AND m.key = :metric
"""  # noqa: S608
_METRICS = f"""
SELECT DISTINCT m.key FROM runs r JOIN latest_metrics m ON m.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} ORDER BY m.key
"""  # noqa: S608
_BEST = f"""
WITH best AS (
    SELECT m.run_uuid, {{best}}(m.value) AS value
    FROM runs r JOIN metrics m ON m.run_uuid = r.run_uuid AND m.key = :metric
    WHERE {_OF_EXPERIMENT} AND NOT m.is_nan AND ABS(m.value) < {LARGEST}
    GROUP BY m.run_uuid
), place AS (
    SELECT b.run_uuid, b.value, MIN(m.step) AS step
    FROM best b JOIN metrics m
        ON m.run_uuid = b.run_uuid AND m.key = :metric AND m.value = b.value AND NOT m.is_nan
    GROUP BY b.run_uuid, b.value
)
SELECT p.run_uuid, p.value, o.value, o.is_nan
FROM place p LEFT JOIN metrics o
    ON o.run_uuid = p.run_uuid AND o.key = :beside AND o.step = p.step
ORDER BY o.timestamp
"""  # noqa: S608
