"""Reads and reports 100, 1,000 and 10,000 runs, and compares with MLflow's `search_runs`."""

from __future__ import annotations

import resource
import sqlite3
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.store.read.runs import StoredRun

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

SIZES = (100, 1_000, 10_000)
EPOCHS = 10
PARAMS = 20
REPEATS = 3
MAX_REPORT_BYTES = 8_000_000


def main() -> None:
    """Prints seconds (median of 3, interleaved), their ratio, the report's size, peak memory."""
    print("runs    search_runs  read   ratio  terminal  HTML    size     peak memory")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            _print(size, Path(folder))


def _print(size: int, folder: Path) -> None:
    from harness.report.html import html
    from harness.report.section import build_report, sections
    from harness.report.terminal import terminal
    from harness.store.read.results import read_results
    from harness.store.store import open_store

    (folder / "mlruns").mkdir()
    store = open_store(folder)
    experiment = store.experiment("large")
    assert store.database is not None
    _fill(store.database, experiment, size)
    times = _interleaved(
        {
            "search": lambda: _search(store.client, experiment),
            "read": lambda: read_results(store, "large"),
        }
    )
    results = read_results(store, "large")
    assert len(results.trials) == size
    started = time.perf_counter()
    terminal([build_report(results)])
    brief = time.perf_counter() - started
    started = time.perf_counter()
    page = html([build_report(results, of=sections())])
    whole = time.perf_counter() - started
    assert len(page.encode()) < MAX_REPORT_BYTES, "the report must stay below 8 MB"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{size:>6,}  {times['search']:>9.2f} s  {times['read']:.2f} s "
        f"{times['read'] / times['search']:>5.2f}  {brief:>6.2f} s  {whole:>5.2f} s "
        f"{len(page.encode()) / 1e6:>5.2f} MB  {peak:>6.0f} MiB",
        flush=True,
    )


def _interleaved(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for round_ in range(REPEATS + 1):
        for name, action in actions.items():
            started = time.perf_counter()
            action()
            if round_:  # The first round warms up.
                seconds[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def _search(client: object, experiment: str) -> int:
    """Reads all runs as users of MLflow do, 1,000 a call. Returns their number."""
    count, token = 0, None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)  # type: ignore[attr-defined]
        count += len(page)
        token = page.token
        if not token:
            return count


def _fill(database: Path, experiment: str, size: int) -> None:
    """Writes runs like a sweep's straight into MLflow's tables; the client takes 20 ms a run."""
    rows: dict[str, list[tuple[object, ...]]] = {t: [] for t in _INSERTS}
    for index, run in enumerate(_runs(size)):
        run_id = uuid.uuid5(uuid.NAMESPACE_OID, f"{database}{index}").hex
        rows["runs"].append(
            (run_id, run.name, "FINISHED", "me", "", index, index + 1, "active", int(experiment))
        )
        params = run.params | {f"option_{i}": str(i) for i in range(PARAMS - len(run.params))}
        rows["params"] += [(run_id, key, value) for key, value in params.items()]
        rows["tags"] += [(run_id, key, value) for key, value in run.tags.items()]
        rows["latest_metrics"] += [
            (run_id, key, value, 0, EPOCHS, 0) for key, value in run.metrics.items()
        ]
        for step in range(EPOCHS + 1):
            for key in ("val/accuracy", "train/loss", "time/train_s"):
                rows["metrics"].append((run_id, key, 0.1 + 0.08 * step, 0, step, 0))
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, statement in _INSERTS.items():
            connection.executemany(statement, rows[table])


_INSERTS = {
    "runs": "INSERT INTO runs (run_uuid, name, status, user_id, artifact_uri, start_time, "
    "end_time, lifecycle_stage, experiment_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "params": "INSERT INTO params (run_uuid, key, value) VALUES (?, ?, ?)",
    "tags": "INSERT INTO tags (run_uuid, key, value) VALUES (?, ?, ?)",
    "latest_metrics": "INSERT INTO latest_metrics (run_uuid, key, value, timestamp, step, is_nan) "
    "VALUES (?, ?, ?, ?, ?, ?)",
    "metrics": "INSERT INTO metrics (run_uuid, key, value, timestamp, step, is_nan) "
    "VALUES (?, ?, ?, ?, ?, ?)",
}


def _runs(size: int) -> Iterator[StoredRun]:
    """Yields runs of two data sets, five optimizers, two schedulers and five seeds.

    There are as many learning rates as `size` takes.
    """
    import numpy as np

    from tests.stored import trial_run

    generator = np.random.default_rng(0)
    count = 0
    rate = 0
    while count < size:
        rate += 1
        for dataset in ("digits", "wine"):
            for rank, optimizer in enumerate(("sgd", "momentum", "adam", "adamw", "rmsprop")):
                for scheduler in ("constant", "cosine"):
                    for seed in range(5):
                        if count == size:
                            return
                        count += 1
                        score = 0.9 + 0.01 * rank - 0.002 * rate + generator.normal(0, 0.01)
                        yield trial_run(
                            float(min(score, 1)),
                            test=float(min(score, 1)),
                            dataset=dataset,
                            optimizer=optimizer,
                            scheduler=scheduler,
                            lr=10 ** (-4 + 0.04 * rate),
                            seed=seed,
                            metrics={"time/train_s": 1.0, "best/epoch": 5.0},
                            tags={"harness.target": "0.9"},
                        )


if __name__ == "__main__":
    main()
