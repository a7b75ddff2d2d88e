"""CUDA graphs on a GPU; `test_recorded_stacks` tests the same with a tape on a CPU."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.core.metrics import MACHINE_DEPENDENT
from harness.core.records import Ended, Measured
from harness.experiment.trial import Trial
from harness.training import device as devices
from harness.training.stacked import loop
from harness.training.stacked.cuda_graph import recorder_for
from harness.training.stacked.stack import Stack
from harness.training.stacked.steps import StepRunner
from tests.support import make_trial
from tests.training.stacked.stacked_support import train_records

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

RULES = {"sgd": 0.1, "momentum": 0.05, "nesterov": 0.05, "adam": 0.01, "adamw": 0.01}
SETTINGS: dict[str, dict[str, Any]] = {
    "clipped": {"grad_clip": 0.5},
    "dropout": {"model": {"name": "mlp", "hidden": [7], "dropout": 0.2}},
    "bfloat16": {"precision": "bf16"},
    "by batch": {"scheduler": {"name": "cosine", "by": "batch"}},
    "batch normalisation": {"model": {"name": "bn_cnn", "first": 2, "second": 2}},
}


def device() -> torch.device:
    return torch.device("cuda", 0)


def keyed(**fields: Any) -> list[tuple[str, Trial]]:
    trials = [
        make_trial(optimizer=name, lr=lr, seed=seed, device="cuda:0", **({"epochs": 3} | fields))
        for seed in (0, 1)
        for name, lr in RULES.items()
    ]
    return [(str(i), trial) for i, trial in enumerate(trials)]


def values(trials: list[tuple[str, Trial]], root: Path) -> tuple[dict[Any, float], set[str]]:
    """Returns every value by trial, epoch and name, and the values of the tag `cuda_graph`."""
    found: dict[Any, float] = {}
    told: set[str] = set()
    for key, record in train_records(trials, root, device()):
        if isinstance(record, Measured):
            for name, value in record.values.items():
                if not name.startswith(MACHINE_DEPENDENT):
                    found[key, record.epoch, name] = value
        if isinstance(record, Ended):
            told.add(str(record.metadata.get("cuda_graph")))
    return found, told


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS)
def test_a_replayed_graph_trains_as_launched_updates_do(
    data_root: Path, monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any]
) -> None:
    replayed, told = values(keyed(**fields), data_root)
    assert told == {"captured"}
    monkeypatch.setattr(loop, "recorder_for", lambda _: None)
    launched, _ = values(keyed(**fields), data_root)
    assert replayed == pytest.approx(launched, rel=1e-2, abs=1e-2)


@pytest.mark.parametrize("fields", SETTINGS.values(), ids=SETTINGS)
def test_no_epoch_waits_for_the_device(data_root: Path, fields: dict[str, Any]) -> None:
    devices.configure(device())
    stack = Stack(keyed(**fields), data_root, device())
    with StepRunner(stack, recorder_for(device())) as runner:
        for epoch in (1, 2, 3):
            examples = stack.data.train.shuffled(stack.seeds, epoch)
            coefficients = stack.coefficients(epoch)
            streams = stack.streams(epoch)
            torch.cuda.set_sync_debug_mode("default" if epoch == 1 else "error")
            try:
                for _ in runner.run(examples, coefficients, streams):
                    pass
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert runner.metadata == {"cuda_graph": "captured"}


def test_synchronisation_is_detected_before_recording(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Stack.losses

    def waiting(self: Stack, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        found = plain(self, logits, targets)
        float(found.sum())
        return found

    monkeypatch.setattr(Stack, "losses", waiting)
    replayed, told = values(keyed(), data_root)
    (reason,) = told
    assert reason.startswith("not captured: called a synchronizing CUDA operation")
    assert all(value == value for value in replayed.values())


def test_the_memory_of_a_graph_is_freed(data_root: Path) -> None:
    trials = keyed()
    values(trials, data_root)  # What torch and cuBLAS keep from their first use on.
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device())
    values(trials, data_root)
    gc.collect()
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved(device()) <= before
