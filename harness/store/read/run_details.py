"""What a report reads beyond the table of results: curves of chosen runs, and a few small files.

Histories are read many runs a request, for the runs that a section shows alone, so that memory is
bounded by what is drawn.
"""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import sqlite3
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

import pandas as pd

from harness.core.errors import StoreError
from harness.core.records import Measured
from harness.store.artifacts.trial_files import WEIGHTS
from harness.store.names import TAG_STACK_SIZE
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

RUNS_A_REQUEST = 100
"""MLflow's own limit for histories in bulk."""
RUNS_A_QUERY = 500
"""Below SQLite's limit of variables in one statement."""
POINTS_A_RUN = 2500
LONGEST_FILE = 200_000
_COLUMNS = ["run_id", "metric", "step", "value"]
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunDetails:
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
        run = with_retries(f"read {self.store.label}", lambda: self.store.client.get_run(run_id))
        place = urlparse(run.info.artifact_uri)
        if place.scheme in ("", "file"):
            path = Path(unquote(place.path), name)
            return _read(path) if path.is_file() else None
        local = with_retries(
            "read a run's file", lambda: self.store.client.download_artifacts(run_id, name)
        )
        return _read(Path(local))


@dataclass(frozen=True, slots=True)
class JoinedRunDetails:
    """Those of several experiments or stores as one. of: each run's."""

    of: Mapping[str, RunDetails]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """As `RunDetails.histories`, each store asked for its own runs."""
        asked: dict[int, tuple[RunDetails, list[str]]] = {}
        for run_id in dict.fromkeys(run_ids):
            archive = self.of[run_id]
            asked.setdefault(id(archive), (archive, []))[1].append(run_id)
        tables = [archive.histories(some, metrics) for archive, some in asked.values()]
        held = [table for table in tables if not table.empty]
        if not held:
            return pd.DataFrame(columns=_COLUMNS)
        return pd.concat(held).sort_values(["run_id", "metric", "step"], ignore_index=True)

    def text(self, run_id: str, name: str) -> str | None:
        """As `RunDetails.text`."""
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
            for point in with_retries(f"read {store.label}", ask):
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


def read_history(store: Store, run_id: str, metrics: Iterable[str]) -> tuple[Measured, ...]:
    """The values of some metrics by epoch, as they were measured; `examples` is not read back.

    Raises StoreError where the store cannot be read.
    """
    values: dict[int, dict[str, float]] = {}
    for name in metrics:
        points = with_retries(
            f"read {store.label}",
            lambda name=name: store.client.get_metric_history(run_id, name),  # type: ignore[misc]
        )
        for point in points:
            values.setdefault(point.step, {})[name] = point.value
    return tuple(Measured(epoch, values[epoch], 0) for epoch in sorted(values))


def read_stack_size(store: Store, run_id: str) -> int:
    """How many trials trained as one stack with the run's, itself counted; they shared a clock."""
    run = with_retries(f"read {store.label}", lambda: store.client.get_run(run_id))
    return int(run.data.tags.get(TAG_STACK_SIZE, 1))


def read_parameter_count(store: Store, run_id: str) -> int | None:
    """How many weights the run's model has; None where its provenance does not say."""
    listed = with_retries(f"read {store.label}", lambda: store.client.list_artifacts(run_id))
    if "provenance.json" not in {file.path for file in listed}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        fetched = with_retries(
            "fetch a run's provenance",
            lambda: store.client.download_artifacts(run_id, "provenance.json", folder),
        )
        found = json.loads(Path(fetched).read_text(encoding="utf-8"))
    parameters = found.get("facts", {}).get("parameters")
    return int(parameters) if parameters is not None else None


def fetch_weights(store: Store, run_id: str) -> dict[str, Tensor] | None:
    """The state dict of a run, on the CPU; None where it has none.

    Raises StoreError where the file is not the one that was written.
    """
    folder = WEIGHTS.rpartition("/")[0]
    listed = with_retries(
        f"read {store.label}", lambda: store.client.list_artifacts(run_id, folder)
    )
    if WEIGHTS not in {file.path for file in listed}:
        return None
    with tempfile.TemporaryDirectory() as name:
        fetched = with_retries(
            f"fetch {folder} of run {run_id}",
            lambda: store.client.download_artifacts(run_id, folder, name),
        )
        return _load(Path(fetched, Path(WEIGHTS).name), run_id)


def _load(path: Path, run_id: str) -> dict[str, Tensor]:
    import torch

    beside = path.with_suffix(".pt.sha256")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if beside.is_file() and beside.read_text().split()[:1] != [found]:
        raise StoreError(f"the weights of run {run_id} are damaged: their SHA-256 is {found}")
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"the weights of run {run_id} cannot be read: {reason}") from error
    return state
