"""What a report reads beyond the table of results: curves of chosen runs, and a few small files.

Histories are read many runs a request, for the runs that a section shows alone, so that memory is
bounded by what is drawn.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pandas as pd

from harness.core.errors import StoreError
from harness.store.retry import persist
from harness.store.store import Store

RUNS_A_REQUEST = 100
"""MLflow's own limit for histories in bulk."""
RUNS_A_QUERY = 500
"""Below SQLite's limit of variables in one statement."""
POINTS_A_RUN = 2500
LONGEST_FILE = 200_000
_COLUMNS = ["run_id", "metric", "step", "value"]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Archive:
    """Reads on, in the store that a table of results came from.

    parent_id: the newest sweep's or study's run, whose provenance stands for all; empty without.
    """

    store: Store
    parent_id: str = ""

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Columns `run_id`, `metric`, `step`, `value`; ordered by step within a run and metric.

        Raises StoreError where the store cannot be read.
        """
        wanted = list(dict.fromkeys(run_ids))
        if not wanted or not metrics:
            return pd.DataFrame(columns=_COLUMNS)
        rows = list(self._rows(wanted, list(metrics)))
        table = pd.DataFrame.from_records(rows, columns=_COLUMNS)
        return table.sort_values(["run_id", "metric", "step"], ignore_index=True)

    def text(self, run_id: str, name: str) -> str | None:
        """A small text file of a run, cut to `LONGEST_FILE` characters; None where it has none or
        it cannot be had: a report must not fail for it."""
        try:
            return self._text(run_id, name)
        except (StoreError, OSError, ValueError) as error:
            _logger.debug("%s of run %s: %s", name, run_id, error)
            return None

    def provenance(self) -> dict[str, Any]:
        """The newest parent run's; empty where there is none."""
        held = self.text(self.parent_id, "provenance.json") if self.parent_id else None
        try:
            found = json.loads(held or "{}")
        except json.JSONDecodeError:
            return {}
        return found if isinstance(found, dict) else {}

    def _rows(self, run_ids: list[str], metrics: list[str]) -> Iterator[tuple[Any, ...]]:
        if self.store.database is not None:
            try:
                yield from _in_database(self.store.database, run_ids, metrics)
            except sqlite3.Error as error:
                # Rows may have been yielded already, and must not come twice.
                raise StoreError(f"cannot read {self.store.label}: {error}") from None
            return
        yield from _from_server(self.store, run_ids, metrics)

    def _text(self, run_id: str, name: str) -> str | None:
        run = persist(f"read {self.store.label}", lambda: self.store.client.get_run(run_id))
        place = urlparse(run.info.artifact_uri)
        if place.scheme in ("", "file"):
            path = Path(unquote(place.path), name)
            return _read(path) if path.is_file() else None
        local = persist(
            "read a run's file", lambda: self.store.client.download_artifacts(run_id, name)
        )
        return _read(Path(local))


@dataclass(frozen=True, slots=True)
class Archives:
    """Those of several experiments or stores as one. of: each run's."""

    of: Mapping[str, Archive]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """As `Archive.histories`, each store asked for its own runs."""
        asked: dict[int, tuple[Archive, list[str]]] = {}
        for run_id in dict.fromkeys(run_ids):
            archive = self.of[run_id]
            asked.setdefault(id(archive), (archive, []))[1].append(run_id)
        tables = [archive.histories(some, metrics) for archive, some in asked.values()]
        held = [table for table in tables if not table.empty]
        if not held:
            return pd.DataFrame(columns=_COLUMNS)
        return pd.concat(held).sort_values(["run_id", "metric", "step"], ignore_index=True)

    def text(self, run_id: str, name: str) -> str | None:
        """As `Archive.text`."""
        return self.of[run_id].text(run_id, name)

    def provenance(self) -> dict[str, Any]:
        """What the newest parent runs of all of them agree on."""
        whole = {id(archive): archive for archive in self.of.values()}
        first, *others = [archive.provenance() for archive in whole.values()] or [{}]
        return {
            name: value
            for name, value in first.items()
            if all(name in other and other[name] == value for other in others)
        }


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LONGEST_FILE)


def _in_database(
    database: Path, run_ids: list[str], metrics: list[str]
) -> Iterator[tuple[Any, ...]]:
    keys = ", ".join("?" * len(metrics))
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True, timeout=20)) as reader:
        for start in range(0, len(run_ids), RUNS_A_QUERY):
            some = run_ids[start : start + RUNS_A_QUERY]
            yield from reader.execute(
                "SELECT run_uuid, key, step, value FROM metrics "  # noqa: S608 - only marks
                f"WHERE run_uuid IN ({', '.join('?' * len(some))}) AND key IN ({keys}) "
                "AND NOT is_nan",
                [*some, *metrics],
            )


def _from_server(store: Store, run_ids: list[str], metrics: list[str]) -> Iterator[tuple[Any, ...]]:
    """By the request that MLflow's own UI draws its charts from."""
    for metric in metrics:
        for start in range(0, len(run_ids), RUNS_A_REQUEST):
            ask = partial(_bulk, store, run_ids[start : start + RUNS_A_REQUEST], metric)
            for point in persist(f"read {store.label}", ask):
                yield point["run_id"], metric, int(point.get("step", 0)), float(point["value"])


def _bulk(store: Store, run_ids: list[str], metric: str) -> list[dict[str, Any]]:
    from mlflow.utils.rest_utils import http_request, verify_rest_response

    backend = store.client._tracking_client.store
    if not hasattr(backend, "get_host_creds"):  # A database that MLflow opens itself.
        found = backend.get_metric_history_bulk_interval(run_ids, metric, POINTS_A_RUN, None, None)
        return [{"run_id": m.run_id, "step": m.step, "value": m.value} for m in found]
    endpoint = "/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"
    asked = {"run_ids": run_ids, "metric_key": metric, "max_results": POINTS_A_RUN}
    answer = http_request(  # type: ignore[no-untyped-call]
        backend.get_host_creds(), endpoint, "GET", params=asked
    )
    return list(verify_rest_response(answer, endpoint).json().get("metrics", []))
