"""Stacks in bfloat16 are as close to float32 as their trials one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from harness.core.records import Ended, Measured
from harness.experiment.trial import Choice, Trial
from harness.training.evaluation import evaluate
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.support import make_trial
from tests.training.stacked import stacked_support as support
from tests.training.stacked.stacked_support import train_records
from tests.training.stacked.test_stacked_modules import Residual, trial_of

WIDE: dict[str, Any] = {"name": "mlp", "hidden": [16], "dropout": 0.3}
"""Its 256 inputs are shared by the trials of a seed."""
MODELS: dict[str, dict[str, Any]] = {
    "shared inputs": WIDE,
    "batch norm": {"name": "bn_cnn", "first": 2, "second": 2},
    "dropout of channels": {"name": "dropout_cnn", "first": 2, "second": 2, "padding": "same"},
}


def in_bf16(trials: list[Trial]) -> list[Trial]:
    return [replace(trial, precision="bf16") for trial in trials]


def few(model: dict[str, Any]) -> list[Trial]:
    """Four trials on two seeds, as many on each."""
    return [
        support.trial_of({"name": name}, model=model, lr=lr, seed=seed, epochs=support.EPOCHS)
        for name, lr in (("momentum", 0.01), ("adam", 0.003))
        for seed in (0, 1)
    ]


def _own(build: Callable[[], nn.Module]) -> list[Trial]:
    component = trial_of(build).model.component
    return [replace(one, model=Choice(component, one.model.options)) for one in few(WIDE)]


STACKS = {name: few(model) for name, model in MODELS.items()} | {"own module": _own(Residual)}


@pytest.mark.parametrize("trials", STACKS.values(), ids=STACKS)
def test_rounding_errors_are_as_large_as_one_by_one(trials: list[Trial]) -> None:
    """Over all trials, as a single trial may be close by chance. A stack rounds differently in
    places: a bias is added after a product is rounded."""
    trials = in_bf16(trials)
    mine, theirs, between = 0.0, 0.0, 0.0
    for trial, stack in zip(trials, support.stacked(trials, torch.float32), strict=True):
        exact = support.alone(replace(trial, precision="fp32"), torch.float32)
        alone = support.alone(trial, torch.float32)
        mine += support.distance(stack, exact)
        theirs += support.distance(alone, exact)
        between += support.distance(stack, alone)
    assert theirs > 1e-4, "nothing was rounded to bfloat16"
    assert mine < 1.5 * theirs
    assert between < 1.5 * theirs


@pytest.mark.parametrize("loss", ["cross_entropy", "bce"])
def test_records_are_close_to_those_of_single_trials(loss: str, data_root: Path) -> None:
    """With one logit and with many; outputs and losses are float32, and evaluation is in it."""
    dataset = "breast_cancer" if loss == "bce" else "digits"
    trials = [
        make_trial(dataset=dataset, loss=loss, seed=seed, lr=lr, precision="bf16")
        for seed in (0, 1)
        for lr in (0.01, 0.1)
    ]
    keyed = [(str(i), trial) for i, trial in enumerate(trials)]
    stacked = list(train_records(keyed, data_root, test_outputs=True))
    for key, trial in keyed:
        mine = [record for name, record in stacked if name == key]
        theirs = list(train(TrainingSetup(trial, data_root), test_outputs=True))
        assert [type(record) for record in mine] == [type(record) for record in theirs]
        for one, other in zip(mine, theirs, strict=True):
            if isinstance(one, Measured) and isinstance(other, Measured):
                for name in ("train/loss", "val/loss", "test/loss"):
                    if name in other.values:
                        assert one.values[name] == pytest.approx(other.values[name], rel=1e-2)
            if isinstance(one, Ended) and isinstance(other, Ended):
                assert one.test_outputs is not None
                assert one.test_outputs.outputs.dtype == torch.float32
                expected = _logged(trial, data_root, one)
                assert torch.allclose(one.test_outputs.outputs, expected, rtol=1e-4, atol=1e-5)
                assert one.final["test/loss"] == pytest.approx(other.final["test/loss"], rel=1e-2)


def _logged(trial: Trial, data_root: Path, ended: Ended) -> torch.Tensor:
    """Returns the outputs on the test split of the model that is stored with a trial."""
    setup = TrainingSetup(replace(trial, precision="fp32"), data_root)
    assert ended.test_outputs is not None
    setup.model.load_state_dict(ended.test_outputs.state_dict)
    return evaluate(setup, setup.data.test).outputs
