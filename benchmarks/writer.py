"""Measures what MLflow costs a trial: `python -m benchmarks.writer`.

One trial of iris is trained. The sweep's writer then writes its records as those of many trials
into a new SQLite store, from its thread: into MLflow's tables, many runs a transaction, and through
MLflow's client, call by call. The ways are interleaved. Prints medians and ranges of milliseconds a
trial, and how many of them are processor time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

FILE = """\
name: writer
trial: {{dataset: iris, model: mlp, optimizer: adam, epochs: {epochs}, lr: 0.01}}
grid: {{seed: [{seeds}]}}
artifacts: none
"""
WAYS = ("tables", "client")


def main() -> None:
    """Prints the comparison; options shorten it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.writer", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument(
        "--trials", type=int, default=1000, help="written to the tables; a tenth through the client"
    )
    parser.add_argument("--epochs", type=int, default=50)
    options, _ = parser.parse_known_args()
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            count = options.trials if way == "tables" else max(1, options.trials // 10)
            times[way].append(write_runs(way, count, options.epochs))
    print(f"MLflow's share of a tabular trial of {options.epochs} epochs, SQLite:")
    for way, pairs in times.items():
        wall, processor = ([pair[i] for pair in pairs] for i in (0, 1))
        print(
            f"  {way:<7} {statistics.median(wall):6.1f} ms a trial "
            f"({min(wall):.1f} to {max(wall):.1f}), {statistics.median(processor):.1f} ms of them "
            "of the processor"
        )
    medians = {way: statistics.median(pair[0] for pair in pairs) for way, pairs in times.items()}
    print(f"  {medians['client'] / medians['tables']:.1f} times as fast as the client")


def write_runs(way: str, count: int, epochs: int) -> tuple[float, float]:
    """Returns milliseconds a trial, by the clock and of the processor."""
    from harness.core.paths import data_root
    from harness.execution.executors.base import TrainingTask
    from harness.execution.run_task import run
    from harness.experiment.loading import load
    from harness.experiment.plan import make_plan
    from harness.store.store import open_store
    from harness.store.write.backend import ClientBackend
    from harness.store.write.background import BackgroundWriter
    from harness.store.write.sweep_writer import SweepWriter

    with tempfile.TemporaryDirectory() as name:
        path = Path(name, "writer.yaml")
        path.write_text(FILE.format(epochs=epochs, seeds=", ".join(map(str, range(count)))))
        plan = make_plan(load(str(path), []), data_root())
        records = list(
            run(TrainingTask({"0": plan.trials[0].trial}, data_root(), test_outputs=False))
        )
        store = open_store(Path(name))
        with SweepWriter(store, plan, plan.experiment.goal) as writer:
            if way == "client":
                writer.backend = ClientBackend(store)
            wall, processor = time.perf_counter(), time.process_time()
            with BackgroundWriter(writer) as background:
                for planned in plan.trials:
                    for record in records:
                        background.record(planned, record)
            wall, processor = time.perf_counter() - wall, time.process_time() - processor
        assert background.trials == count
    return 1000 * wall / count, 1000 * processor / count


if __name__ == "__main__":
    main()
