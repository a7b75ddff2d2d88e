"""Runs as plain data, and how MLflow's client reads them, which works for every kind of store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.core.metrics import BEST, EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, FINAL, THROUGHPUT
from harness.core.records import FINISHED, Outcome
from harness.store import names
from harness.store.retry import with_retries

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.store.store import Store

PAGE = 1000
"""Runs in one answer: it bounds memory."""
RUNS_A_REQUEST = 100
"""MLflow's limit for histories in bulk."""
POINTS_A_RUN = 2500
SUMMARY_PREFIXES = (FINAL, BEST, "time/", "memory/")
SUMMARY_METRICS = (EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, THROUGHPUT)
"""The metrics that summarise a run; with the prefixes above, those that `StoredRun` holds."""
TAG_PREFIXES = ("harness.", names.TAG_PARENT, names.TAG_GIT_COMMIT)
"""The tags that `StoredRun` holds."""

MetricPoint = tuple[str, str, int, float]
"""Run id, metric, step and value of one measurement."""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What decides whether a trial has to be trained.

    outcome: None while the run is open or if its process was killed.
    best: the selection metric at its best epoch; None if it was never measured.
    has_artifacts: whether figures, weights and model are all stored.
    started: milliseconds since 1970, UTC.
    """

    run_id: str
    trial_id: str
    outcome: Outcome | None
    best: float | None
    has_artifacts: bool
    started: int

    @classmethod
    def of(
        cls,
        run_id: str,
        trial_id: str,
        outcome: str | None,
        best: float | None,
        artifacts: str | None,
        started: int | None,
    ) -> RunSummary:
        """Builds a summary from stored values. outcome, artifacts: values of tags."""
        known = Outcome(outcome) if outcome in set(Outcome) else None
        is_complete = artifacts == names.ARTIFACTS_COMPLETE
        return cls(run_id, trial_id, known, best, is_complete, started or 0)


@dataclass(frozen=True, slots=True)
class StoredRun:
    """One run with its params, its summary metrics (no histories) and the harness's tags.

    started: milliseconds since 1970, UTC. artifacts: the URI of its files. data: the digest of its
    data set; "" if it has none. The digests of several, which another program may have logged, are
    joined by "+".
    """

    run_id: str
    name: str
    status: str
    started: int
    artifacts: str = ""
    data: str = ""
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def latest_of_each_trial(runs: Iterable[RunSummary]) -> dict[str, RunSummary]:
    """Returns the run of each trial that started last, by trial id."""
    return {run.trial_id: run for run in sorted(runs, key=lambda run: (run.started, run.run_id))}


@dataclass(frozen=True, slots=True)
class ClientReader:
    """Reads a store by requests of MLflow's client. Every method raises StoreError.

    `tables.TableReader` has the same methods for a store that is a SQLite file.
    """

    store: Store

    def latest_runs(self, experiment_id: str, trial_id: str | None = None) -> dict[str, RunSummary]:
        """Returns the latest run of each trial, by trial id, without superseded runs.

        trial_id: of one trial alone.
        """
        matches = f"tags.`{names.TAG_KIND}` = '{names.TRIAL}'"
        if trial_id is not None:
            matches += f" AND params.{names.PARAM_TRIAL} = '{trial_id}'"
        complete, without_params = [], []
        for run in search_runs(self.store, [experiment_id], matches):
            if names.TAG_SUPERSEDED in run.data.tags:
                continue
            if trial := run.data.params.get(names.PARAM_TRIAL):
                complete.append(_summary(run, trial))
            elif trial := run.data.tags.get(names.TAG_IDS, "").partition(" ")[0]:
                # Its process lost the server, or died, before it wrote the params.
                without_params.append(_summary(run, trial))
        return latest_of_each_trial(without_params) | latest_of_each_trial(complete)

    def finished_by_code(self, experiment_id: str) -> dict[str, int]:
        """Returns how many finished trials have each value of `names.TAG_CODE`, without superseded
        runs and those of no user's code."""
        matches = f"tags.`{names.TAG_KIND}` = '{names.TRIAL}' AND tags.`{names.TAG_CODE}` != ''"
        counts: Counter[str] = Counter()
        for run in search_runs(self.store, [experiment_id], matches):
            tags = run.data.tags
            if tags.get(names.TAG_OUTCOME) in FINISHED and names.TAG_SUPERSEDED not in tags:
                counts[tags[names.TAG_CODE]] += 1
        return counts

    def runs(self, experiment_id: str) -> list[StoredRun]:
        """Returns all runs that are not deleted, the oldest first."""
        return [stored_run(run) for run in search_runs(self.store, [experiment_id])]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> list[MetricPoint]:
        """Returns all points of these metrics of these runs, in any order. Sends the request from
        which MLflow's UI draws its charts."""
        points: list[MetricPoint] = []
        for metric in metrics:
            for start in range(0, len(run_ids), RUNS_A_REQUEST):
                some = run_ids[start : start + RUNS_A_REQUEST]
                read = f"read {self.store.label}"
                points += with_retries(read, _request_histories, self.store, some, metric)
        return points


def search_runs(
    store: Store, experiment_ids: list[str], matches: str = "", newest_first: bool = False
) -> Iterator[Run]:
    """Yields the runs that MLflow's search finds. matches: a filter in MLflow's language.

    The oldest come first: runs that start meanwhile come last and do not shift the pages.
    """
    order = [f"attributes.start_time {'DESC' if newest_first else 'ASC'}"]
    search = partial(store.client.search_runs, max_results=PAGE, order_by=order)
    return _all_pages(store, search, experiment_ids, matches) if experiment_ids else iter(())


def experiment_titles(store: Store) -> dict[str, str]:
    """Returns the name of every experiment that is not deleted, by its id."""
    experiments = _all_pages(store, store.client.search_experiments)
    return {experiment.experiment_id: experiment.name for experiment in experiments}


def _all_pages(store: Store, search: Callable[..., Any], *args: Any) -> Iterator[Any]:
    """Yields what all pages of a search of MLflow's client have."""
    token: str | None = None
    while True:
        page = with_retries(f"read {store.label}", search, *args, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _summary(run: Run, trial_id: str) -> RunSummary:
    tags = run.data.tags
    return RunSummary.of(
        run.info.run_id,
        trial_id,
        tags.get(names.TAG_OUTCOME),
        run.data.metrics.get(BEST + tags.get(names.TAG_METRIC, "")),
        tags.get(names.TAG_ARTIFACTS),
        run.info.start_time,
    )


def data_digest(run: Run) -> str:
    """Returns the digest of a run's data set, as `StoredRun.data`."""
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return "+".join(sorted({used.dataset.digest for used in inputs}))


def stored_run(run: Run) -> StoredRun:
    """Returns an MLflow run as plain data."""
    tags = run.data.tags.items()
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        started=run.info.start_time or 0,
        artifacts=run.info.artifact_uri or "",
        data=data_digest(run),
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
    params = {"run_ids": list(run_ids), "metric_key": metric, "max_results": POINTS_A_RUN}
    answer = http_request(  # type: ignore[no-untyped-call]
        backend.get_host_creds(), endpoint, "GET", params=params
    )
    points = verify_rest_response(answer, endpoint).json().get("metrics", [])
    return [
        (point["run_id"], metric, int(point.get("step", 0)), float(point["value"]))
        for point in points
    ]
