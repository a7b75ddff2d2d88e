"""Shared by the tests of checkpoints: records without clocks, and equality to the last bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import Ended, Measured, Record, Started
from harness.execution.checkpoint_folder import CheckpointFolder
from harness.execution.executors.base import TrainingTask
from harness.execution.experiment_checkpoints import ExperimentCheckpoints
from harness.execution.queue import make_task
from harness.execution.run_task import run
from harness.experiment.plan import PlannedTrial
from harness.experiment.trial import Fingerprint, Trial, make_trial_id


def planned(trial: Trial, fingerprint: str = "") -> PlannedTrial:
    """A trial as a plan has it. fingerprint: of other data than it has now."""
    data = Fingerprint(fingerprint) if fingerprint else trial.fingerprint(Path())
    trial_id = make_trial_id(trial.identity(), data)
    return PlannedTrial(trial, trial_id, "config", "a trial", {}, data)


def task(trial: Trial, root: Path, checkpoints: ExperimentCheckpoints) -> TrainingTask:
    """A task that trains this trial with checkpoints."""
    one = planned(trial)
    return make_task(root, True, checkpoints, None, [one])


def train_until(
    trial: Trial, root: Path, checkpoints: ExperimentCheckpoints, epochs: int
) -> CheckpointFolder:
    """Train so many epochs and a few batches, and stop there as a killed process does."""
    for record in run(task(trial, root, checkpoints)):
        if isinstance(record, Measured) and record.epoch == epochs:
            break
    return CheckpointFolder(checkpoints.trial_folder(planned(trial)))


def uninterrupted_records(trial: Trial, root: Path) -> list[Record]:
    """The records of a trial that nobody interrupts."""
    return list(run(task(trial, root, ExperimentCheckpoints(Path("/nonexistent"), every=1e9))))


def metadata_of(record: Record) -> Mapping[str, Any]:
    """The metadata of a record that begins or ends a trial."""
    assert isinstance(record, Started | Ended)
    return record.metadata


def comparable(records: Iterable[Record]) -> list[Any]:
    """Records without clocks, as values that can be compared."""
    found: list[Any] = []
    for record in records:
        if isinstance(record, Started):
            found.append("started")
        elif isinstance(record, Ended):
            weights = {} if record.test_outputs is None else record.test_outputs.state_dict
            outputs = None if record.test_outputs is None else record.test_outputs.outputs.tolist()
            held = {name: tensor.tolist() for name, tensor in weights.items()}
            found.append((record.outcome, record.reason, record.final, held, outputs))
        elif isinstance(record, Measured):
            values = {k: v for k, v in record.values.items() if not k.startswith(MACHINE_DEPENDENT)}
            found.append((record.epoch, values, record.examples))
        else:
            found.append(record)
    return found


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit, at every depth; NaN equals NaN."""
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert torch.equal(one.nan_to_num(), other.nan_to_num())
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other
