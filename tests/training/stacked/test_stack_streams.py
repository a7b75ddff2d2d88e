"""The random streams of a stack: augmentations as for single trials, and masks by seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.components.registry import components
from harness.core.seeding import generator
from harness.experiment.trial import Trial
from harness.training.setup import TrainingSetup
from harness.training.stacked.modules.dropout import EpochDropoutMasks
from harness.training.stacked.stack import Stack
from tests.support import make_trial
from tests.training.stacked.stacked_support import train_records

CPU = torch.device("cpu")
AUGMENTATIONS = [
    {"name": one.name, **tiny} for one in components("augmentations").values() for tiny in one.tiny
]


def alone(trial: Trial, root: Path, epoch: int) -> list[Tensor]:
    """Returns a single trial's batches of an epoch."""
    parts = TrainingSetup(trial, root)
    order = torch.randperm(len(parts.data.train), generator=generator(trial.seed, "order", epoch))
    chance = generator(trial.seed, "augmentation", epoch)
    batches = parts.data.train.batches(trial.batch_size, order)
    return [parts.augment(inputs, chance) for inputs, _ in batches]


@pytest.mark.parametrize("augment", [*([one] for one in AUGMENTATIONS), AUGMENTATIONS], ids=str)
def test_every_augmentation_gives_each_seed_what_it_gives_it_alone(
    augment: list[dict[str, Any]], data_root: Path
) -> None:
    dataset = {"name": "digits", "mean": [0.0], "std": [1.0]}
    fields: dict[str, Any] = {"dataset": dataset, "augment": augment, "batch_size": 512}
    trials = [make_trial(seed=seed, **fields) for seed in (3, 1)]
    trials.append(make_trial(seed=3, lr=0.01, **fields))
    stack = Stack([(str(i), trial) for i, trial in enumerate(trials)], data_root, CPU)
    places = stack.data.train.shuffled(stack.seeds, 2).split(512, dim=1)
    streams = stack.streams(2)
    ours = [streams.augment_batch(stack.data.train.gather(chosen)[0]) for chosen in places]
    for place, trial in enumerate(trials[:2]):
        theirs = alone(trial, data_root, 2)
        assert all(torch.equal(a[place], b) for a, b in zip(ours, theirs, strict=True))


def test_masks_depend_on_the_seed_alone() -> None:
    one, other = (
        EpochDropoutMasks([5, 6], torch.tensor(owner), 1, torch.float32).next(0, (4, 9), 0.5)
        for owner in ([0, 1], [1, 0])
    )
    assert torch.equal(one, other.flip(0))
    assert not torch.equal(one[0], one[1])


def test_dropout_continues_after_most_trials_have_left(data_root: Path) -> None:
    """Each trial has its own seed, so that there are more seeds than rows."""
    model = {"name": "mlp", "hidden": [8], "dropout": 0.3}
    trials = [make_trial(seed=s, model=model, lr=1e30 if s < 3 else 0.1) for s in range(4)]
    records = list(train_records([(str(t.seed), t) for t in trials], data_root))
    assert [key for key, _ in records[-2:]] == ["3", "3"]
