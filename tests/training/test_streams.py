"""The seeds in the provenance are those that generators are seeded with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sklearn.model_selection
import torch

from harness.core.seeding import stream_seeds
from harness.training import data
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.support import make_trial


def test_the_recorded_seeds_are_those_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []

    class Noted(torch.Generator):
        def manual_seed(self, seed: int) -> torch.Generator:
            used.append(seed)
            return super().manual_seed(seed)

    globally = torch.manual_seed
    cut = sklearn.model_selection.train_test_split

    def noted_cut(*arrays: Any, random_state: int, **arguments: Any) -> Any:
        used.append(random_state)
        return cut(*arrays, random_state=random_state, **arguments)

    def noted_seed(seed: int) -> torch.Generator:
        used.append(seed)
        return globally(seed)

    monkeypatch.setattr(torch, "Generator", Noted)
    monkeypatch.setattr(torch, "manual_seed", noted_seed)
    monkeypatch.setattr(sklearn.model_selection, "train_test_split", noted_cut)
    data.clear_caches()
    trial = make_trial(
        seed=7, epochs=1, dataset={"name": "digits", "split_seed": None}, augment=["noise"]
    )

    list(train(TrainingSetup(trial, Path())))

    told = stream_seeds(7)
    assert {name for name, seed in told.items() if seed not in used} == set()
    # And nothing else is seeded, but by what warms the device up.
    assert set(used) - {0} <= set(told.values())
