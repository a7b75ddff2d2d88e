"""What is read of chosen runs beyond the table of results: histories, weights and small files."""

from __future__ import annotations

import hashlib
import json
import logging
import pickle
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pandas as pd

from harness.core.errors import StoreError, first_line
from harness.core.records import Measured
from harness.store.names import PROVENANCE_FILE, TAG_STACK_SIZE, WEIGHTS_FILE
from harness.store.read.run_files import read_text
from harness.store.read.runs import MetricPoint
from harness.store.retry import with_retries
from harness.store.store import Store

if TYPE_CHECKING:
    from torch import Tensor

LONGEST_FILE = 200_000
_COLUMNS = ["run_id", "metric", "step", "value"]
_logger = logging.getLogger(__name__)


class Details(Protocol):
    """Reads histories and files of the runs of a table of results."""

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """See `RunDetails.histories`."""
        ...

    def text(self, run_id: str, name: str) -> str | None:
        """See `RunDetails.text`."""
        ...

    def provenance(self) -> dict[str, Any]:
        """See `RunDetails.provenance`."""
        ...


def history_table(points: Sequence[MetricPoint]) -> pd.DataFrame:
    """Returns columns `run_id`, `metric`, `step`, `value`; ordered by step within a run and
    metric."""
    table = pd.DataFrame.from_records(points, columns=_COLUMNS)
    return table.sort_values(["run_id", "metric", "step"], ignore_index=True)


@dataclass(frozen=True, slots=True)
class RunDetails:
    """Reads histories and files of the runs that a table of results came from.

    parent_id: the newest sweep's or study's run, whose provenance stands for all; "" without one.
    """

    store: Store
    parent_id: str = ""

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Returns columns `run_id`, `metric`, `step`, `value`; ordered by step within a run and
        metric. Raises StoreError."""
        run_ids = list(dict.fromkeys(run_ids))
        if not run_ids or not metrics:
            return pd.DataFrame(columns=_COLUMNS)
        return history_table(self.store.histories(run_ids, list(metrics)))

    def text(self, run_id: str, name: str) -> str | None:
        """Returns a text file of a run, cut to `LONGEST_FILE` characters.

        Returns None if there is none or it cannot be read: a report must not fail for it.
        """
        try:
            artifacts = self.store.run(run_id).info.artifact_uri
            return read_text(self.store, run_id, artifacts, name, LONGEST_FILE)
        except (StoreError, OSError, ValueError) as error:
            _logger.debug("%s of run %s: %s", name, run_id, error)
            return None

    def provenance(self) -> dict[str, Any]:
        """Returns the provenance of the newest parent run; empty if there is none."""
        text = self.text(self.parent_id, PROVENANCE_FILE) if self.parent_id else None
        try:
            provenance = json.loads(text or "{}")
        except json.JSONDecodeError:
            return {}
        return provenance if isinstance(provenance, dict) else {}


@dataclass(frozen=True, slots=True)
class JoinedRunDetails:
    """The `RunDetails` of several experiments or stores as one. by_run: those of each run."""

    by_run: Mapping[str, RunDetails]

    def histories(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """See `RunDetails.histories`. Each store is asked for its own runs."""
        requests: dict[RunDetails, list[str]] = defaultdict(list)
        for run_id in run_ids:
            requests[self.by_run[run_id]].append(run_id)
        tables = [details.histories(some, metrics) for details, some in requests.items()]
        tables = [table for table in tables if not table.empty]
        if not tables:
            return pd.DataFrame(columns=_COLUMNS)
        return pd.concat(tables).sort_values(["run_id", "metric", "step"], ignore_index=True)

    def text(self, run_id: str, name: str) -> str | None:
        """See `RunDetails.text`."""
        return self.by_run[run_id].text(run_id, name)

    def provenance(self) -> dict[str, Any]:
        """Returns the entries in which the newest parent runs agree."""
        every = dict.fromkeys(self.by_run.values())
        first, *others = [details.provenance() for details in every] or [{}]
        return {
            name: value
            for name, value in first.items()
            if all(name in other and other[name] == value for other in others)
        }


def read_history(store: Store, run_id: str, metrics: Iterable[str]) -> tuple[Measured, ...]:
    """Returns a run's metrics by epoch, as they were measured; `examples` is not stored, and 0.

    Raises StoreError.
    """
    values: dict[int, dict[str, float]] = {}
    for metric in metrics:
        read = store.client.get_metric_history
        for point in with_retries(f"read {store.label}", read, run_id, metric):
            values.setdefault(point.step, {})[metric] = point.value
    return tuple(Measured(epoch, values[epoch], 0) for epoch in sorted(values))


def read_stack_size(store: Store, run_id: str) -> int:
    """Returns how many trials were trained in one stack with the run's, itself included."""
    return int(store.run(run_id).data.tags.get(TAG_STACK_SIZE, 1))


def read_parameter_count(store: Store, run_id: str) -> int | None:
    """Returns how many parameters the run's model has; None if its provenance does not say."""
    if not has_file(store, run_id, PROVENANCE_FILE):
        return None
    with tempfile.TemporaryDirectory() as folder:
        download = store.client.download_artifacts
        path = with_retries("fetch a run's provenance", download, run_id, PROVENANCE_FILE, folder)
        provenance = json.loads(Path(path).read_text(encoding="utf-8"))
    parameters = provenance.get("facts", {}).get("parameters")
    return int(parameters) if parameters is not None else None


def fetch_weights(store: Store, run_id: str) -> dict[str, Tensor] | None:
    """Returns the state dict of a run, on the CPU; None if it has none.

    Raises StoreError if the file is not the one that was written.
    """
    import torch

    if not has_file(store, run_id, WEIGHTS_FILE):
        return None
    folder = WEIGHTS_FILE.rpartition("/")[0]
    with tempfile.TemporaryDirectory() as target:
        download = store.client.download_artifacts
        fetched = with_retries(f"fetch {folder} of run {run_id}", download, run_id, folder, target)
        path = Path(fetched, Path(WEIGHTS_FILE).name)
        if not is_undamaged(path):
            raise StoreError(f"the weights of run {run_id} are damaged: their SHA-256 differs")
        try:
            state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
            reason = first_line(error)
            raise StoreError(f"the weights of run {run_id} cannot be read: {reason}") from error
        return state


def has_file(store: Store, run_id: str, name: str) -> bool:
    """Returns whether a run has a file of this path. Raises StoreError."""
    folder = name.rpartition("/")[0] or None
    listed = with_retries(f"read {store.label}", store.client.list_artifacts, run_id, folder)
    return name in {file.path for file in listed}


def is_undamaged(path: Path) -> bool:
    """Returns whether a file has the SHA-256 that is stored beside it, if one is."""
    checksum_file = path.with_name(path.name + ".sha256")
    if not checksum_file.is_file():
        return True
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    return checksum_file.read_text(encoding="utf-8").split()[:1] == [checksum]
