"""Reads somebody else's runs through MLflow's client, which works for every kind of store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

from harness.store.read.external.runs import BestStep, ExternalRun, finite_or
from harness.store.read.runs import MetricPoint, experiment_titles, search_runs
from harness.store.retry import with_retries
from harness.store.store import Store


@dataclass(frozen=True, slots=True)
class ExternalClient:
    """A store of MLflow. Every method raises StoreError. See `mlflow_tables.ExternalTables`."""

    store: Store

    def experiments(self) -> dict[str, str]:
        """See `ExternalTables`."""
        return {name: number for number, name in experiment_titles(self.store).items()}

    def runs(self, experiment_id: str, metrics: Sequence[str]) -> list[ExternalRun]:
        """See `ExternalTables`."""
        return [
            ExternalRun(
                run_id=run.info.run_id,
                name=run.info.run_name or "",
                status=run.info.status,
                started=run.info.start_time or 0,
                params=dict(run.data.params),
                tags=dict(run.data.tags),
                metrics={
                    name: finite_or(run.data.metrics[name], nan)
                    for name in metrics
                    if name in run.data.metrics
                },
            )
            for run in search_runs(self.store, [experiment_id])
        ]

    def metric_names(self, experiment_id: str) -> list[str]:
        """See `ExternalTables`."""
        runs = search_runs(self.store, [experiment_id])
        return sorted({name for run in runs for name in run.data.metrics})

    def best_steps(
        self, experiment_id: str, metric: str, highest: bool, beside: str
    ) -> dict[str, BestStep]:
        """See `ExternalTables`. Asks for the history of each run."""
        best = {}
        for run in search_runs(self.store, [experiment_id]):
            run_id = run.info.run_id
            if metric not in run.data.metrics:
                continue
            points = [(v, -step) for step, v in self._history(run_id, metric) if isfinite(v)]
            if not points:
                continue
            value, step = max((v if highest else -v, step) for v, step in points)
            others = dict(self._history(run_id, beside)) if beside in run.data.metrics else {}
            best[run_id] = BestStep(value if highest else -value, others.get(-step, nan))
        return best

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """See `ExternalTables`."""
        return self.store.histories(run_ids, metrics)

    def _history(self, run_id: str, metric: str) -> list[tuple[int, float]]:
        """Returns steps and values, NaN where one is not finite, in the order of time."""
        read = self.store.client.get_metric_history
        points = with_retries(f"read {self.store.label}", read, run_id, metric)
        in_time = sorted(points, key=lambda point: point.timestamp)
        return [(int(point.step), finite_or(point.value, nan)) for point in in_time]
