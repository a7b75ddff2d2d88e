"""The records of a stack are those that its trials yield by themselves."""

from __future__ import annotations

from dataclasses import replace
from math import inf, isfinite, nan
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import BatchLosses, Ended, Measured, Outcome, Record, Started
from harness.experiment.trial import Trial
from harness.training.checkpoint import Checkpoint
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.support import TASKS, make_trial
from tests.training.stacked.stacked_support import train_records
from tests.training.stacked.test_stacking_refusal import trial_of


def stacked(trials: list[Trial], root: Path, test_outputs: bool = False) -> list[list[Record]]:
    """Each trial's records, from one stack of all."""
    found: dict[str, list[Record]] = {str(i): [] for i in range(len(trials))}
    keyed = [(str(i), trial) for i, trial in enumerate(trials)]
    for key, record in train_records(keyed, root, test_outputs=test_outputs):
        found[key].append(record)
    return list(found.values())


def single(trial: Trial, root: Path, test_outputs: bool = False) -> list[Record]:
    items = train(TrainingSetup(trial, root), test_outputs)
    return [item for item in items if not isinstance(item, Checkpoint)]


def untimed(values: Any) -> dict[str, float]:
    return {name: value for name, value in values.items() if not name.startswith(MACHINE_DEPENDENT)}


def grid(**fields: Any) -> list[Trial]:
    """Every stacked rule and one that is not, on two seeds."""
    rates = {"sgd": 0.1, "momentum": 0.05, "nesterov": 0.05, "adam": 0.01, "adamw": 0.01}
    rates["rmsprop"] = 0.003
    return [
        make_trial(**{"optimizer": name, "lr": lr, "seed": seed, **fields})
        for seed in (0, 1)
        for name, lr in rates.items()
    ]


def same_records(mine: list[Record], theirs: list[Record]) -> None:
    assert [type(record) for record in mine] == [type(record) for record in theirs]
    for one, other in zip(mine, theirs, strict=True):
        match one, other:
            case Started(), Started():
                added = {"fused": one.metadata["fused"], "exclusive": False}
                assert dict(one.metadata) == {**other.metadata, **added}
            case Measured(), Measured():
                assert (one.epoch, one.examples) == (other.epoch, other.examples)
                assert list(one.values) == list(other.values)
                assert untimed(one.values) == pytest.approx(
                    untimed(other.values), rel=1e-4, abs=1e-4
                )
            case BatchLosses(), BatchLosses():
                assert one.examples == other.examples
                assert one.losses == pytest.approx(other.losses, rel=1e-4, abs=1e-4)
            case Ended(), Ended():
                assert (one.outcome, one.reason) == (other.outcome, other.reason)
                assert list(one.final) == list(other.final)
                assert one.final == pytest.approx(other.final, rel=1e-3, abs=1e-3)


SETTINGS: dict[str, dict[str, Any]] = {
    "splits by seed": {},
    "no validation, evaluated now and then": {"val_fraction": 0.0, "eval_every": 2, "epochs": 3},
    "batch losses": {"log_every": 3},
    "clipped": {"grad_clip": 0.1},
    "standardised, one logit": {"dataset": "breast_cancer", "loss": "bce"},
    "test split by seed": {"dataset": {"name": "wine", "split_seed": None}, "val_fraction": 0.0},
    "regression": {"dataset": "diabetes", "loss": "mse", "metrics": ["r2"], "grad_clip": 1.0},
    "augmented": {"augment": ["noise", "flip"], "log_every": 3},
    "plateau": {"scheduler": {"name": "plateau", "patience": 0, "threshold": 0.9}, "epochs": 4},
    "by batch": {"scheduler": {"name": "cosine", "by": "batch", "warmup_epochs": 0.5}},
    "smoothed": {"loss": {"name": "cross_entropy", "label_smoothing": 0.1}},
    "batches of all": {"batch_size": 4096},
    **{name: {**fields, "optimizer": "adam"} for name, fields in TASKS.items()},
    "convolutions": {"model": {"name": "bn_cnn", "first": 2, "second": 2}, "epochs": 1},
}


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS)
def test_records_are_those_of_single_trials(data_root: Path, fields: dict[str, Any]) -> None:
    trials = grid(**fields)
    for trial, mine in zip(trials, stacked(trials, data_root), strict=True):
        same_records(mine, single(trial, data_root))


def test_outputs_are_those_of_single_trials(data_root: Path) -> None:
    trials = grid(model={"name": "bn_cnn", "first": 2, "second": 2}, epochs=1)[:8]
    for trial, mine in zip(trials, stacked(trials, data_root, test_outputs=True), strict=True):
        *_, ours = mine
        *_, theirs = single(trial, data_root, test_outputs=True)
        assert isinstance(ours, Ended)
        assert isinstance(theirs, Ended)
        assert ours.test_outputs is not None
        assert theirs.test_outputs is not None
        assert list(ours.test_outputs.state_dict) == list(theirs.test_outputs.state_dict)
        for name, tensor in theirs.test_outputs.state_dict.items():
            torch.testing.assert_close(
                ours.test_outputs.state_dict[name], tensor, atol=1e-4, rtol=1e-3
            )
        torch.testing.assert_close(
            ours.test_outputs.outputs, theirs.test_outputs.outputs, atol=1e-3, rtol=1e-3
        )
        assert torch.equal(ours.test_outputs.targets, theirs.test_outputs.targets)
        assert torch.equal(ours.test_outputs.inputs, theirs.test_outputs.inputs)


def test_a_trial_that_diverges_says_what_it_says_alone(data_root: Path) -> None:
    trials = [replace(trial, lr=1e30) if i % 2 else trial for i, trial in enumerate(grid())]
    outcomes = []
    for trial, mine in zip(trials, stacked(trials, data_root), strict=True):
        same_records(mine, single(trial, data_root))
        outcomes.append(mine[-1].outcome)  # type: ignore[union-attr]
        points = [record for record in mine if isinstance(record, Measured)]
        assert all(isfinite(value) for point in points for value in point.values.values())
    assert {Outcome.DONE, Outcome.DIVERGED} == set(outcomes)


def test_a_stack_of_which_all_diverge_ends(data_root: Path) -> None:
    trials = [make_trial(lr=1e30, seed=seed, log_every=1) for seed in range(3)]
    for trial, mine in zip(trials, stacked(trials, data_root), strict=True):
        same_records(mine, single(trial, data_root))


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize(("bad", "lr"), [(0, nan), (4, inf), (5, inf), (11, inf)])
def test_a_trial_that_diverges_changes_no_bit_of_the_others(
    data_root: Path, activation: str, bad: int, lr: float
) -> None:
    """Neither while it is in the stack nor when it leaves."""
    trials = grid(model={"name": "mlp", "hidden": [7], "activation": activation, "dropout": 0.2})
    spoilt = [replace(trial, lr=lr) if i == bad else trial for i, trial in enumerate(trials)]
    pairs = zip(
        stacked(trials, data_root, test_outputs=True),
        stacked(spoilt, data_root, test_outputs=True),
        strict=True,
    )
    for i, (sound, beside) in enumerate(pairs):
        if i == bad:
            assert beside[-1].outcome is Outcome.DIVERGED  # type: ignore[union-attr]
            continue
        for one, other in zip(sound, beside, strict=True):
            if isinstance(one, Measured) and isinstance(other, Measured):
                assert untimed(one.values) == untimed(other.values)
            if isinstance(one, Ended) and isinstance(other, Ended):
                assert one.final == other.final
                assert one.test_outputs is not None
                assert other.test_outputs is not None
                for name, tensor in one.test_outputs.state_dict.items():
                    assert torch.equal(other.test_outputs.state_dict[name], tensor), (i, name)


def test_dropout_draws_as_often_as_alone(data_root: Path) -> None:
    """The masks differ from those of single trials; their effect must be of the same size."""
    model = {"name": "mlp", "hidden": [64], "dropout": 0.5}
    trials = [make_trial(model=model, seed=seed, epochs=8) for seed in range(4)]
    of_stack = stacked(trials, data_root)
    ours = [records[-1].final["test/loss"] for records in of_stack]  # type: ignore[union-attr]
    theirs = [single(t, data_root)[-1].final["test/loss"] for t in trials]  # type: ignore[union-attr]
    without = make_trial(model={**model, "dropout": 0.0}, epochs=8)
    bare = single(without, data_root)[-1].final["test/loss"]  # type: ignore[union-attr]
    assert sum(ours) / 4 == pytest.approx(sum(theirs) / 4, rel=0.1)
    assert abs(bare - sum(theirs) / 4) > 0.02


def test_records_of_ones_own_module_are_those_of_single_trials(data_root: Path) -> None:
    first = trial_of(lambda: nn.BatchNorm1d(4))
    trials = [replace(first, seed=seed, lr=lr) for seed in (0, 1) for lr in (0.01, 0.1)]
    for trial, mine in zip(trials, stacked(trials, data_root), strict=True):
        same_records(mine, single(trial, data_root))
