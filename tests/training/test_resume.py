"""A trial that resumes from a checkpoint is, to the last bit, one that was never interrupted."""

from __future__ import annotations

import io
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from harness.components.registry import components
from harness.experiment.trial import Trial
from harness.training import checkpoint, loop
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, UnusableCheckpoint, restore
from harness.training.data import clear_caches
from harness.training.evaluation import evaluate
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.components.synthetic_data import write_images
from tests.resume_support import assert_same, comparable
from tests.support import TASKS, make_trial

CUTS = ((1, 3), (2, 0))
"""Inside an epoch, and between two epochs."""
SMALL: dict[str, Any] = {"batch_size": 256, "epochs": 3}
DROPOUT = {"name": "mlp", "hidden": [16], "dropout": 0.3}

OPTIMIZERS = [
    pytest.param({"name": name, **options}, id=f"{name}-{number}")
    for name, component in components("optimizers").items()
    for number, options in enumerate(component.tiny)
]
OTHERS_OF_TORCH = [{"name": name} for name in ("ASGD", "Adadelta", "Adafactor", "Adamax", "Rprop")]
SCHEDULERS = [
    pytest.param({"name": name, **options}, id=f"{name}-{number}")
    for name, component in components("schedulers").items()
    for number, options in enumerate(component.tiny)
]
TRIALS: dict[str, dict[str, Any]] = {
    "dropout": {"model": DROPOUT},
    "batchnorm": {"model": "bn_cnn", "optimizer": "adam", "lr": 0.01},
    "dropout of channels": {"model": {"name": "dropout_cnn", "padding": "same"}},
    "augmentation": {"augment": [{"name": "crop", "padding": 1}, "noise"], "model": DROPOUT},
    "torchvision": {"augment": ["torchvision"], "model": DROPOUT},
    "bf16": {"precision": "bf16", "optimizer": "adam", "lr": 0.01},
    "clipping": {"grad_clip": 0.1, "lr": 1.0},
    "what a schedule has seen": {
        "scheduler": {"name": "plateau", "patience": 0, "threshold": 0.9},
    },
    "batch losses": {"log_every": 2},
    "warm-up": {"scheduler": {"name": "cosine", "warmup_epochs": 1.5}},
    "rare evaluation": {"eval_every": 2},
    "no validation": {"val_fraction": 0.0, "metrics": ["accuracy"]},
    "regression": {
        "dataset": "diabetes",
        "loss": "mse",
        "metrics": ["r2"],
        "batch_size": 64,
        "model": {"name": "mlp", "hidden": [8]},
        "lr": 0.001,
    },
    "labels": {**TASKS["labels"], "batch_size": 32},
    "ordered classes": {**TASKS["ordered classes"], "batch_size": 32},
    "counts": {**TASKS["counts"], "batch_size": 32},
    "autoencoder": {**TASKS["autoencoder of images"], "augment": ["noise"], "batch_size": 32},
}


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS, *OTHERS_OF_TORCH], ids=str)
def test_every_optimizer(optimizer: dict[str, Any], data_root: Path) -> None:
    check(make_any(optimizer=optimizer, lr=0.01, model=DROPOUT, **SMALL), data_root)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler(scheduler: dict[str, Any], data_root: Path) -> None:
    check(make_trial(scheduler=scheduler, optimizer="momentum", **SMALL), data_root)


@pytest.mark.parametrize("name", TRIALS)
def test_every_other_field_of_a_trial(name: str, data_root: Path) -> None:
    check(make_trial(**{**SMALL, **TRIALS[name]}), data_root)


@pytest.mark.slow
def test_data_that_streams_from_disk(tmp_path: Path) -> None:
    write_images(tmp_path / "images", each=12)
    trial = make_trial(
        dataset={"name": "image_folder", "path": "images", "size": 12, "memory_gb": 0},
        batch_size=4,
        epochs=3,
        model=DROPOUT,
        augment=["flip"],
        val_fraction=0.2,
    )
    check(trial, tmp_path)
    clear_caches()


def test_a_checkpoint_after_the_last_batch_and_after_the_last_epoch(data_root: Path) -> None:
    check(make_trial(model=DROPOUT, **SMALL), data_root, cuts=((1, 6), (3, 0), (0, 1), (0, 6)))


def test_a_diverging_trial_diverges_in_the_same_epoch(data_root: Path) -> None:
    check(make_trial(lr=1e30, log_every=1, **SMALL), data_root, cuts=((0, 2),))


def test_random_numbers_drawn_while_it_is_written_change_nothing(data_root: Path) -> None:
    trial = make_trial(model=DROPOUT, augment=["noise"], **SMALL)
    whole, _ = finish(TrainingSetup(trial, data_root))
    items = []
    for item in train(TrainingSetup(trial, data_root), True, CheckpointPolicy(0)):
        items.append(item)
        torch.manual_seed(7)
    assert comparable(item for item in items if not isinstance(item, Checkpoint)) == whole


def test_checkpoints_are_far_apart_unless_asked_for(data_root: Path) -> None:
    policy = CheckpointPolicy()
    trial = make_trial(**SMALL)
    assert not [
        i
        for i in train(TrainingSetup(trial, data_root), policy=policy)
        if isinstance(i, Checkpoint)
    ]
    running = train(TrainingSetup(trial, data_root), policy=policy)
    for item in running:
        if isinstance(item, Checkpoint):
            break
        policy.stop_requested = True
    assert isinstance(item, Checkpoint)
    assert (item.epoch, item.batch) == (0, 1)


def test_no_more_than_one_interval_lies_between_two(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The clock advances a second at every batch: this bounds what a kill at any moment costs."""
    clock = iter(range(10_000))
    policy = CheckpointPolicy(every=5)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    trial = make_trial(batch_size=128, epochs=6)
    parts = TrainingSetup(trial, data_root)
    places = [0]
    for item in train(parts, policy=policy):
        if isinstance(item, Checkpoint):
            places.append(item.epoch * parts.steps_per_epoch + item.batch)
            policy.record_write(0.0)
    assert places[-1] == 6 * parts.steps_per_epoch
    gaps = [later - sooner for sooner, later in pairwise(places)]
    assert max(gaps) <= 5
    assert min(gaps) >= 2, "and none right after another"


def test_a_long_evaluation_has_a_checkpoint_before_it(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill during the evaluation costs no training. On this clock training takes no time."""

    def slow(*arguments: Any) -> Any:
        time.sleep(0.1)
        return evaluate(*arguments)

    monkeypatch.setattr(loop, "evaluate", slow)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: 0.0))
    trial = make_trial(eval_every=2, **SMALL)
    for every, places in ((0.1, [(1, 6), (2, 6)]), (3600.0, [])):
        items = train(TrainingSetup(trial, data_root), policy=CheckpointPolicy(every))
        found = [(item.epoch, item.batch) for item in items if isinstance(item, Checkpoint)]
        assert found == places


def test_writing_takes_a_small_part_of_the_time_by_default() -> None:
    grown, fixed = CheckpointPolicy(), CheckpointPolicy(every=20)
    for policy in (grown, fixed):
        policy.record_write(seconds=3.0)
    assert grown._every == 150
    assert fixed._every == 20


def test_a_checkpoint_of_another_model_is_refused(data_root: Path) -> None:
    trial = make_trial(**SMALL)
    state = states(trial, data_root, CUTS)[1, 3]
    other = make_trial(model={"name": "mlp", "hidden": [17]}, **SMALL)
    with pytest.raises(UnusableCheckpoint, match="size mismatch"):
        restore(TrainingSetup(other, data_root), state)
    with pytest.raises(UnusableCheckpoint, match="of the device cuda"):
        restore(TrainingSetup(trial, data_root), {**state, "device": "cuda"})
    with pytest.raises(UnusableCheckpoint, match="another version"):
        restore(TrainingSetup(trial, data_root), {**state, "format": 0})


def check(trial: Trial, root: Path, cuts: tuple[tuple[int, int], ...] = CUTS) -> None:
    """Interrupts a trial at each position. The resumed trial must yield the rest of the records,
    and end with the same model and optimizer."""
    whole_parts = TrainingSetup(trial, root)
    whole, state = finish(whole_parts)
    for place, cut in states(trial, root, cuts).items():
        parts = TrainingSetup(trial, root)
        # Nothing may depend on what was drawn before.
        torch.manual_seed(sum(place))
        resumed = restore(parts, cut)
        rest, again = finish(parts, resumed)
        assert rest[1:] == whole[len(whole) - len(rest) + 1 :], place
        assert len(rest) > 1
        assert_same(state, again)
        assert resumed.clock.train_seconds > 0


def states(
    trial: Trial, root: Path, cuts: tuple[tuple[int, int], ...]
) -> dict[tuple[int, int], dict[str, Any]]:
    """Returns the stored states of a trial's checkpoints at these positions."""
    found = {}
    for item in train(TrainingSetup(trial, root), policy=CheckpointPolicy(0)):
        if isinstance(item, Checkpoint) and (item.epoch, item.batch) in cuts:
            buffer = io.BytesIO()
            torch.save(item.state, buffer)
            buffer.seek(0)
            found[item.epoch, item.batch] = torch.load(buffer, weights_only=True)
    assert set(found) == set(cuts)
    return found


def finish(parts: TrainingSetup, resumed: Any = None) -> tuple[list[Any], dict[str, Any]]:
    """Returns the comparable records, and the final state of model and optimizer."""
    records = list(train(parts, True, resumed=resumed))
    return comparable(record for record in records if not isinstance(record, Checkpoint)), {
        "model": parts.model.state_dict(),
        **parts.optimizer.state(),
    }


def make_any(**fields: Any) -> Trial:
    """As make_trial, with any class of torch.optim too."""
    optimizer = fields.pop("optimizer")
    return Trial.of({**make_trial(**fields).resolved(), "optimizer": optimizer})
