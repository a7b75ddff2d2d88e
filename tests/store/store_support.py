"""Plans and records for tests of tracking, made without training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run

from harness.core.metrics import Goal
from harness.core.records import Ended, Measured, Outcome, Record, Started, TestOutputs
from harness.experiment.experiment import Experiment
from harness.experiment.plan import Plan, PlannedTrial
from harness.experiment.trial import Trial
from harness.store.store import Store
from harness.store.write.sql_backend import SqlBackend
from harness.store.write.sweep_writer import SweepWriter
from tests.support import make_trial

GOAL = Goal("val/accuracy", "max", target=0.7)
CLASSES = 10


def make_plan(
    trials: Sequence[Trial], names: Sequence[str] | None = None, **experiment: Any
) -> Plan:
    """Trials with made-up ids: the n-th has n in hexadecimal."""
    values: dict[str, Any] = {
        "name": "test",
        "path": Path("no-such-file.yaml"),
        "description": "",
        "axes": (),
        "skip": (),
        "metric": GOAL.metric,
        "direction": GOAL.direction,
        "target": GOAL.target,
        "search": None,
        "expect": (),
        "artifacts": "none",
    } | experiment
    planned = tuple(
        PlannedTrial(
            trial=trial,
            trial_id=f"{number:016x}",
            config_id=f"{number + 256:016x}",
            name=names[number] if names else f"trial {number}",
            axes={},
            fingerprint=trial.fingerprint(Path()),
        )
        for number, trial in enumerate(trials)
    )
    return Plan(Experiment(**values), planned, ())


def done(accuracy: float = 0.8, test_outputs: TestOutputs | None = None) -> list[Record]:
    """Records of a trial of two epochs that reaches `accuracy`."""
    return [
        Started({"device": "cpu", "device_name": "a processor", "exclusive": True}),
        measured(0, 0.1),
        measured(1, accuracy),
        measured(2, accuracy - 0.05),
        Ended(
            Outcome.DONE,
            {"test/accuracy": 0.75, "test/roc_auc": float("nan")},
            "",
            "",
            test_outputs,
        ),
    ]


def measured(epoch: int, accuracy: float) -> Measured:
    values = {"train/loss": 2.0 - epoch / 10, "val/accuracy": accuracy, "lr": 0.1}
    return Measured(epoch, values, examples=1000 * epoch)


def failed() -> Ended:
    return Ended(Outcome.FAILED, {}, "ValueError: no", "Traceback …\nValueError: no")


def made_outputs(trial: Trial, accuracy_of_test: float = 0.9, seed: int = 0) -> TestOutputs:
    """Weights of the trial's network, and outputs for 60 test examples of digits."""
    import torch

    info = trial.dataset.component.info(trial.dataset.options, Path())
    network = trial.model.component.build(trial.model.options, info, CLASSES)
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(60) % CLASSES
    shown = torch.where(
        torch.rand(60, generator=generator) < accuracy_of_test, targets, (targets + 1) % CLASSES
    )
    logits = torch.nn.functional.one_hot(shown, CLASSES) * 4.0
    inputs = torch.randint(0, 17, (30, *info.shape), generator=generator, dtype=torch.uint8)
    return TestOutputs(network.state_dict(), logits, targets, inputs)


def write(store: Store, plan: Plan, records: dict[int, list[Record]]) -> SweepWriter:
    """One sweep in which the plan's n-th trial yields `records[n]`."""
    with SweepWriter(store, plan, GOAL) as writer:
        for number, yielded in records.items():
            for record in yielded:
                writer.record(plan.trials[number], record)
    return writer


@contextmanager
def by_client(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Writers opened in the block go through MLflow's client, as on a server."""
    with monkeypatch.context() as patched:
        patched.setattr(SqlBackend, "of", classmethod(lambda cls, store: None))
        yield


def runs(store: Store, experiment: str = "test") -> list[Run]:
    """All runs, the oldest first."""
    found = store.client.search_runs([store.experiment(experiment)], max_results=1000)
    return sorted(found, key=lambda run: run.info.start_time)


def points(store: Store, run_id: str, metric: str) -> list[tuple[int, float]]:
    """A metric's values with their steps, in the order of the steps."""
    history = store.client.get_metric_history(run_id, metric)
    return sorted((point.step, point.value) for point in history)


def children(store: Store) -> dict[str, Run]:
    """The newest run of each trial, by its name."""
    return {
        run.info.run_name: run
        for run in runs(store)
        if run.data.tags.get("harness.kind") == "trial"
    }


def digits(**fields: Any) -> Trial:
    return make_trial(**({"metrics": []} | fields))
