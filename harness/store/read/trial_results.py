"""What a finished trial measured, read back from its run."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

from harness.core.records import Measured
from harness.store.names import TAG_FUSED
from harness.store.retry import persist
from harness.store.store import Store


def recall_history(store: Store, run_id: str, metrics: Iterable[str]) -> tuple[Measured, ...]:
    """The values of some metrics by epoch, as they were measured; `examples` is not read back.

    Raises StoreError where the store cannot be read.
    """
    values: dict[int, dict[str, float]] = {}
    for name in metrics:
        points = persist(
            f"read {store.label}",
            lambda name=name: store.client.get_metric_history(run_id, name),  # type: ignore[misc]
        )
        for point in points:
            values.setdefault(point.step, {})[name] = point.value
    return tuple(Measured(epoch, values[epoch], 0) for epoch in sorted(values))


def recall_shared(store: Store, run_id: str) -> int:
    """How many trials trained as one stack with the run's, itself counted; they shared a clock."""
    run = persist(f"read {store.label}", lambda: store.client.get_run(run_id))
    return int(run.data.tags.get(TAG_FUSED, 1))


def recall_parameters(store: Store, run_id: str) -> int | None:
    """How many weights the run's model has; None where its provenance does not say."""
    listed = persist(f"read {store.label}", lambda: store.client.list_artifacts(run_id))
    if "provenance.json" not in {file.path for file in listed}:
        return None
    with tempfile.TemporaryDirectory() as folder:
        fetched = persist(
            "fetch a run's provenance",
            lambda: store.client.download_artifacts(run_id, "provenance.json", folder),
        )
        found = json.loads(Path(fetched).read_text(encoding="utf-8"))
    parameters = found.get("facts", {}).get("parameters")
    return int(parameters) if parameters is not None else None
