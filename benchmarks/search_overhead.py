"""Measures what a search adds to bare Optuna: 1,000 points of a trivial objective, same storage.

The trials are not trained: a stub executor ends each at once, so that only asking, telling and
planning remain, and in the last row the writing of runs to MLflow.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections import deque
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import optuna

from harness.core.process import Interrupts
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.execution.executors.base import Event, TrainingTask
from harness.experiment.loading import load
from harness.experiment.plan import make_plan
from harness.store.store import open_store
from harness.store.write.background import BackgroundWriter
from harness.store.write.sweep_writer import SweepWriter
from harness.tuning.search_loop import SearchLoop
from harness.tuning.storage import open_storage
from harness.tuning.study import TuningStudy
from harness.tuning.study_plan import plan_studies, search_plan

POINTS = 1000
ROUNDS = 5
FILE = f"""\
name: overhead
trial: {{dataset: iris, model: perceptron, optimizer: sgd, lr: 0.1, epochs: 1, val_fraction: 0.3}}
artifacts: none
search:
  trials: {POINTS}
  space: {{lr: {{low: 1e-4, high: 1, log: true}}}}
  sampler: random
"""


@dataclass
class StubExecutor:
    """An executor of one slot, whose trials end at once with their learning rate as their score."""

    slots: int = 1
    is_local: bool = True
    description: str = "nothing"
    events: deque[Event] = field(default_factory=deque)

    def has_slot(self, device: str) -> bool:  # noqa: ARG002 - the protocol's
        return not self.events

    def prepare(self) -> None: ...

    def submit(self, task: TrainingTask) -> None:
        values = {"val/accuracy": task.trial.lr, "train/loss": 1.0}
        records: tuple[Record, ...] = (
            Started({"parameters": 1, "device": "cpu"}),
            Measured(1, values, 100),
            Ended(Outcome.DONE, {"val/accuracy": task.trial.lr}),
        )
        self.events.extend(Event(task.key, record) for record in records)

    def next(self, timeout: float | None = None) -> Event | None:  # noqa: ARG002
        return self.events.popleft() if self.events else None

    def cancel(self, key: str) -> None: ...

    def request_stop(self) -> bool:
        return False

    def close(self) -> None: ...


def run_optuna(folder: Path) -> None:
    """Uses Optuna's own ask and tell."""
    with open_storage("", folder, "bare") as storage:
        study = optuna.create_study(
            storage=storage.storage,
            direction="maximize",
            sampler=optuna.samplers.RandomSampler(seed=0),
        )
        for _ in range(POINTS):
            trial = study.ask()
            study.tell(trial, trial.suggest_float("lr", 1e-4, 1, log=True))


def run_search(folder: Path, with_mlflow: bool) -> None:
    """Asks and tells through the search loop."""
    path = folder / "overhead.yaml"
    path.write_text(FILE)
    experiment = load(path)
    assert experiment.search is not None
    plans = plan_studies(make_plan(experiment), experiment.search, folder)
    goal = experiment.goal
    with open_storage("", folder, "search") as storage, Interrupts() as interrupts:
        studies = [TuningStudy(storage, plan, experiment.name) for plan in plans]
        loop = SearchLoop(studies, StubExecutor(), lambda *_: None, goal, interrupts, folder)
        if with_mlflow:
            plan, store = search_plan(experiment, plans, experiment.search), open_store(folder)
            with (
                SweepWriter(store, plan, goal, studies={"all": POINTS}) as runs,
                BackgroundWriter(runs, in_step=True) as writer,
            ):
                for event in loop.events():
                    if event.search is None:
                        continue  # The store has the trial's result already.
                    writer.record(event.planned, event.record, event.search)
                    if isinstance(event.record, Ended):
                        writer.wait_until_safe(event.planned)
        else:
            for _ in loop.events():
                pass
        assert studies[0].outcome_counts()["done"] == POINTS


CASES: dict[str, Callable[[Path], None]] = {
    "bare Optuna": run_optuna,
    "search, without MLflow": lambda folder: run_search(folder, with_mlflow=False),
    "search, with MLflow (SQLite)": lambda folder: run_search(folder, with_mlflow=True),
}


def time_case(name: str) -> float:
    """Returns milliseconds a point, in a folder of its own."""
    with tempfile.TemporaryDirectory() as created, chdir(created):
        folder = Path(created)
        (folder / "mlruns").mkdir()
        if "with MLflow" in name:
            open_store(folder)  # Creating the tables is no part of a trial.
        start = time.perf_counter()
        CASES[name](folder)
        return (time.perf_counter() - start) / POINTS * 1000


def main() -> None:
    """Prints times of interleaved rounds, after a warm-up round, and ratios within a round."""
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    rounds = [{name: time_case(name) for name in CASES} for _ in range(ROUNDS + 1)][1:]
    print(f"{POINTS:,} points, journal storage; medians and ranges of {ROUNDS} rounds")
    first = next(iter(CASES))
    for name in CASES:
        milliseconds = [times[name] for times in rounds]
        ratio = median(times[name] / times[first] for times in rounds)
        spread = f"[{min(milliseconds):.2f}, {max(milliseconds):.2f}]"
        print(f"{name:<30} {median(milliseconds):7.2f} ms a point {spread:>16}  {ratio:5.2f}×")


if __name__ == "__main__":
    main()
