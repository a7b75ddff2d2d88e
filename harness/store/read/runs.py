"""Runs as they stand in the store, read by the thousand: what the table of results is made of."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from harness.core.metrics import BEST, EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, FINAL, THROUGHPUT
from harness.core.records import Outcome
from harness.store.names import TAG_GIT_COMMIT
from harness.store.retry import with_retries

if TYPE_CHECKING:
    from mlflow.entities import Run

    from harness.store.store import Store

PAGE = 1000
"""Runs a request: bounds memory, and is small enough for a server's answer."""
PREFIXES = (FINAL, BEST, "time/", "memory/")
LONE = (EPOCHS_TO_TARGET, EXAMPLES_TO_TARGET, THROUGHPUT)
TAGS = ("harness.", "mlflow.parentRunId", TAG_GIT_COMMIT)


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A trial's run. outcome: None while it runs, or where its process died.

    best: the selection metric at its best epoch, None where it has none. has_artifacts: whether
    its figures, weights and model are all stored. started: milliseconds since 1970, UTC.
    """

    run_id: str
    trial_id: str
    outcome: Outcome | None
    best: float | None
    has_artifacts: bool
    started: int


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run. started: milliseconds since 1970, UTC. metrics: its scalars, without the history and
    without what an epoch's measurements are called; tags: the harness's own, and the parent's."""

    run_id: str
    name: str
    status: str
    started: int
    params: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def read_runs(store: Store, experiment_id: str) -> Iterator[StoredRun]:
    """All runs of an experiment that are not deleted, the oldest first."""
    if store.database is not None:
        try:
            yield from _in_database(store.database, experiment_id)
        except sqlite3.Error:
            pass  # Another release's schema: MLflow's own reading is slower but knows it.
        else:
            return
    for run in search_runs(store, [experiment_id]):
        yield _stored(run)


def search_runs(
    store: Store, experiment_ids: list[str], matches: str = "", newest_first: bool = False
) -> Iterator[Run]:
    """Runs by MLflow's search, a page a request.

    matches: MLflow's filter. Oldest first, runs that begin meanwhile come last, so that no page
    shifts under the reader.
    """
    order = f"attributes.start_time {'DESC' if newest_first else 'ASC'}"
    token: str | None = None
    while experiment_ids:
        ask = partial(
            store.client.search_runs,
            experiment_ids,
            matches,
            max_results=PAGE,
            order_by=[order],
            page_token=token,
        )
        page = with_retries(f"read {store.label}", ask)
        yield from page
        token = page.token
        if not token:
            return


def _stored(run: Run) -> StoredRun:
    return StoredRun(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        started=run.info.start_time or 0,
        params=run.data.params,
        metrics={
            name: value
            for name, value in run.data.metrics.items()
            if name.startswith(PREFIXES) or name in LONE
        },
        tags={name: value for name, value in run.data.tags.items() if name.startswith(TAGS)},
    )


def _in_database(database: Path, experiment_id: str) -> Iterator[StoredRun]:
    """From MLflow's tables, read only: its search builds every entity of every run, at about 2 ms
    a run. Raises sqlite3.Error, before it yields, where the tables are not as expected."""
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as reader:
        reader.execute("BEGIN")  # One moment's view of all four tables.
        asked = (int(experiment_id),)
        runs = {row[0]: StoredRun(*row) for row in reader.execute(_RUNS, asked)}
        for run_id, key, value in reader.execute(_PARAMS, asked):
            runs[run_id].params[key] = value
        for run_id, key, value in reader.execute(_METRICS, asked):
            runs[run_id].metrics[key] = value
        for run_id, key, value in reader.execute(_TAGS, asked):
            runs[run_id].tags[key] = value
    yield from runs.values()


_OF_EXPERIMENT = "r.experiment_id = ? AND r.lifecycle_stage = 'active'"
_RUNS = f"""
SELECT r.run_uuid, COALESCE(r.name, ''), r.status, COALESCE(r.start_time, 0) FROM runs r
WHERE {_OF_EXPERIMENT} ORDER BY r.start_time, r.run_uuid
"""  # noqa: S608 - made of this module's constants
_PARAMS = f"""
SELECT p.run_uuid, p.key, p.value FROM runs r JOIN params p ON p.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT}
"""  # noqa: S608
_METRICS = f"""
SELECT m.run_uuid, m.key, m.value FROM runs r JOIN latest_metrics m ON m.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} AND NOT m.is_nan AND (
    {" OR ".join(f"m.key LIKE '{prefix}%'" for prefix in PREFIXES)}
    OR m.key IN ({", ".join(f"'{name}'" for name in LONE)})
)
"""  # noqa: S608
_TAGS = f"""
SELECT t.run_uuid, t.key, t.value FROM runs r JOIN tags t ON t.run_uuid = r.run_uuid
WHERE {_OF_EXPERIMENT} AND ({" OR ".join(f"t.key LIKE '{prefix}%'" for prefix in TAGS)})
"""  # noqa: S608
