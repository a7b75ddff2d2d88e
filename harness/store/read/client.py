"""Reads runs through MLflow's client, which works for every kind of store."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.core.metrics import BEST
from harness.store.names import (
    PARAM_TRIAL,
    TAG_ARTIFACTS,
    TAG_IDS,
    TAG_KIND,
    TAG_METRIC,
    TAG_OUTCOME,
    TAG_SUPERSEDED,
    TRIAL,
)
from harness.store.read.runs import (
    SUMMARY_METRICS,
    SUMMARY_PREFIXES,
    TAG_PREFIXES,
    MetricPoint,
    RunSummary,
    StoredRun,
    latest_of_each_trial,
)
from harness.store.retry import with_retries

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.store.store import Store

PAGE = 1000
"""Runs in one answer: it bounds memory."""
RUNS_A_REQUEST = 100
"""MLflow's limit for histories in bulk."""
POINTS_A_RUN = 2500


@dataclass(frozen=True, slots=True)
class ClientReader:
    """Reads a store by requests of MLflow's client. Every method raises StoreError."""

    store: Store

    def latest_runs(self, experiment_id: str, trial_id: str | None = None) -> dict[str, RunSummary]:
        """See `RunReader`. trial_id: of one trial alone."""
        matches = f"tags.`{TAG_KIND}` = '{TRIAL}'"
        if trial_id is not None:
            matches += f" AND params.{PARAM_TRIAL} = '{trial_id}'"
        complete, without_params = [], []
        for run in search_runs(self.store, [experiment_id], matches):
            if TAG_SUPERSEDED in run.data.tags:
                continue
            if trial := run.data.params.get(PARAM_TRIAL):
                complete.append(_summary(run, trial))
            elif trial := run.data.tags.get(TAG_IDS, "").partition(" ")[0]:
                # Its process lost the server, or died, before it wrote the params.
                without_params.append(_summary(run, trial))
        return latest_of_each_trial(without_params) | latest_of_each_trial(complete)

    def runs(self, experiment_id: str) -> list[StoredRun]:
        """See `RunReader`."""
        return [_stored_run(run) for run in search_runs(self.store, [experiment_id])]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """See `RunReader`. Sends the request from which MLflow's UI draws its charts."""
        points: list[MetricPoint] = []
        for metric in metrics:
            for start in range(0, len(run_ids), RUNS_A_REQUEST):
                some = run_ids[start : start + RUNS_A_REQUEST]
                request = partial(_request_histories, self.store, some, metric)
                points += with_retries(f"read {self.store.label}", request)
        return points


def search_runs(
    store: Store, experiment_ids: list[str], matches: str = "", newest_first: bool = False
) -> Iterator[Run]:
    """Yields the runs that MLflow's search finds. matches: a filter in MLflow's language.

    The oldest come first: runs that start meanwhile come last and do not shift the pages.
    """
    order = f"attributes.start_time {'DESC' if newest_first else 'ASC'}"
    token: str | None = None
    while experiment_ids:
        request = partial(
            store.client.search_runs,
            experiment_ids,
            matches,
            max_results=PAGE,
            order_by=[order],
            page_token=token,
        )
        page = with_retries(f"read {store.label}", request)
        yield from page
        token = page.token
        if not token:
            return


def experiment_titles(store: Store) -> dict[str, str]:
    """Returns the name of every experiment that is not deleted, by its id."""
    titles: dict[str, str] = {}
    token: str | None = None
    while True:
        request = partial(store.client.search_experiments, page_token=token)
        page = with_retries(f"read {store.label}", request)
        titles.update((experiment.experiment_id, experiment.name) for experiment in page)
        token = page.token
        if not token:
            return titles


def _summary(run: Run, trial_id: str) -> RunSummary:
    tags = run.data.tags
    return RunSummary.of(
        run.info.run_id,
        trial_id,
        tags.get(TAG_OUTCOME),
        run.data.metrics.get(BEST + tags.get(TAG_METRIC, "")),
        tags.get(TAG_ARTIFACTS),
        run.info.start_time,
    )


def _stored_run(run: Run) -> StoredRun:
    tags = run.data.tags.items()
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        started=run.info.start_time or 0,
        params=run.data.params,
        metrics={
            name: value
            for name, value in run.data.metrics.items()
            if name.startswith(SUMMARY_PREFIXES) or name in SUMMARY_METRICS
        },
        tags={name: value for name, value in tags if name.startswith(TAG_PREFIXES)},
    )


def _request_histories(store: Store, run_ids: Sequence[str], metric: str) -> list[MetricPoint]:
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    backend = store.client._tracking_client.store
    if not hasattr(backend, "get_host_creds"):  # A database that MLflow opens itself.
        points = backend.get_metric_history_bulk_interval(
            list(run_ids), metric, POINTS_A_RUN, None, None
        )
        return [(point.run_id, metric, point.step, point.value) for point in points]
    endpoint = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    params: dict[str, Any] = {
        "run_ids": list(run_ids),
        "metric_key": metric,
        "max_results": POINTS_A_RUN,
    }
    answer = http_request(  # type: ignore[no-untyped-call]
        backend.get_host_creds(), endpoint, "GET", params=params
    )
    points = verify_rest_response(answer, endpoint).json().get("metrics", [])
    return [
        (point["run_id"], metric, int(point.get("step", 0)), float(point["value"]))
        for point in points
    ]
