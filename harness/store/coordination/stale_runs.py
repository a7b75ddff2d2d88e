"""Closes runs that a dead process left open; MLflow would show them as running for ever."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.core.records import Outcome
from harness.store import names
from harness.store.coordination.orphaned_files import remove_strays
from harness.store.coordination.owner import is_dead
from harness.store.retry import persist
from harness.store.store import Store
from harness.store.write.trial_run import STATUS

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 1000


def clear_after_the_dead(store: Store, experiment_id: str) -> None:
    """What processes that were killed left of an experiment: their open runs are closed, and files
    of runs that they never came to write removed."""
    if close_dead_runs(store, experiment_id):
        remove_strays(store)


def close_dead_runs(store: Store, experiment_id: str) -> int:
    """Close each running run whose process is known to be dead: as it ended where it says so,
    else as interrupted. Returns how many. Runs of other hosts are left alone."""
    dead = [
        run
        for run in running(store, experiment_id)
        if is_dead(run.data.tags.get(names.TAG_OWNER, ""))
    ]
    for run in dead:
        close_run(store, run, "its process died")
    return len(dead)


def running(store: Store, experiment_id: str, also: str = "") -> list[Run]:
    """An experiment's runs that MLflow shows as running. also: a further condition, in MLflow's
    language."""
    condition = "attributes.status = 'RUNNING'" + (f" AND {also}" if also else "")
    found: list[Run] = []
    token: str | None = None
    while True:
        page = persist(
            f"read {store.label}",
            partial(
                store.client.search_runs,
                [experiment_id],
                filter_string=condition,
                max_results=PAGE,
                page_token=token,
            ),
        )
        found += page
        token = page.token
        if not token:
            return found


def close_run(store: Store, run: Run, why: str) -> None:
    """End a run whose harness is gone: as it ended where it says so, else as interrupted."""
    persist("close a run", lambda: _close(store.client, run, why))


def _close(client: MlflowClient, run: Run, why: str) -> None:
    run_id, tags = run.info.run_id, run.data.tags
    told = tags.get(names.TAG_OUTCOME)
    outcome = Outcome(told) if told in set(Outcome) else Outcome.INTERRUPTED
    if names.TAG_OUTCOME not in tags and tags.get(names.TAG_KIND) == names.TRIAL:
        client.set_tag(run_id, names.TAG_REASON, why)
        client.set_tag(run_id, names.TAG_OUTCOME, outcome.value)
    if names.PARAM_TRIAL not in run.data.params and names.TAG_IDS in tags:
        ids = zip((names.PARAM_TRIAL, names.PARAM_CONFIG), tags[names.TAG_IDS].split(), strict=True)
        for name, value in ids:
            client.log_param(run_id, name, value)
    client.set_terminated(run_id, STATUS[outcome], end_time=_last_seen(client, run))


def _last_seen(client: MlflowClient, run: Run) -> int:
    """When the run last wrote a loss: the nearest that is known to when it died."""
    points = client.get_metric_history(run.info.run_id, "train/loss")
    return int(max((point.timestamp for point in points), default=run.info.start_time))
