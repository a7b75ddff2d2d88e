"""Tasks that are neither a classification nor a regression, from data to records."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.components.base import Loss, Metric, Task
from harness.core.records import Ended, Measured
from harness.training.batch_sources import InMemorySource, StreamingSource, SubsetSource
from harness.training.data import clear_caches, load_splits
from harness.training.loop import train
from harness.training.setup import TrainingSetup
from tests.components.synthetic_data import write_images
from tests.support import TASKS, make_trial, registered

CPU = torch.device("cpu")


def last_records(root: Path, **fields: Any) -> tuple[Measured, Ended]:
    *_, measured, ended = train(TrainingSetup(make_trial(**fields), root), test_outputs=True)
    assert isinstance(measured, Measured)
    assert isinstance(ended, Ended)
    return measured, ended


DATA: dict[Task, dict[str, Any]] = {
    Task.MULTILABEL: {"name": "generated_labels", "examples": 80},
    Task.ORDINAL: {"name": "generated_ranks", "examples": 80},
    Task.COUNT: {"name": "generated_counts", "examples": 80},
    Task.AUTOENCODING: {"name": "wine", "task": "autoencoding"},
}


@pytest.mark.parametrize(
    ("task", "loss"),
    [(t, name) for t in DATA for name, loss in registered(Loss).items() if t in loss.tasks],
)
def test_every_default_metric_is_defined_with_every_loss(
    task: Task, loss: str, data_root: Path
) -> None:
    defaults = [name for name, m in registered(Metric).items() if task in m.default_for]
    fields = {"dataset": DATA[task], "loss": loss, "metrics": defaults}
    setup = TrainingSetup(make_trial(**fields, epochs=1), data_root)
    points = [record for record in train(setup) if isinstance(record, Measured)]
    wanted = {f"{split}/{name}" for split in ("val", "test") for name in ["loss", *defaults]}
    for point in points:
        assert wanted <= set(point.values)
        assert all(map(isfinite, point.values.values()))


@pytest.mark.parametrize(
    ("name", "metric", "best"),
    [
        ("labels", "mean_average_precision", 0.8),
        ("ordered classes", "qwk", 0.7),
        ("ordered classes by coral", "qwk", 0.7),
        ("counts", "r2", 0.2),
    ],
)
def test_what_is_generated_can_be_learned(
    name: str, metric: str, best: float, data_root: Path
) -> None:
    dataset = {**TASKS[name]["dataset"], "examples": 600, "features": 4}
    model = {"name": "mlp", "hidden": []}
    fields = {**TASKS[name], "dataset": dataset, "model": model, "epochs": 30}
    _, ended = last_records(data_root, **fields, optimizer="adam", lr=0.03)
    assert ended.final[f"test/{metric}"] > best


def test_an_autoencoder_learns_its_input(data_root: Path) -> None:
    dataset = {"name": "digits", "task": "autoencoding"}
    setup = TrainingSetup(make_trial(dataset=dataset, loss="mse", metrics=["mse"]), data_root)
    inputs, targets = next(setup.data.test.batches(10))
    assert torch.equal(targets, inputs.flatten(1))
    assert setup.model(inputs).shape == targets.shape
    errors = [r.values["test/mse"] for r in train(setup) if isinstance(r, Measured)]
    assert errors[-1] < errors[0]


def test_an_augmentation_changes_the_input_and_not_the_target(data_root: Path) -> None:
    """So that it makes a denoising autoencoder."""
    setup = TrainingSetup(
        make_trial(**{**TASKS["autoencoder of images"], "augment": ["noise"]}), data_root
    )
    inputs, targets = next(setup.data.train.batches(10, torch.arange(10)))
    before = targets.clone()
    inputs.add_(1.0)
    setup.augment(inputs, torch.Generator().manual_seed(0))
    assert torch.equal(targets, before)


def test_an_autoencoders_targets_take_no_memory(data_root: Path) -> None:
    trial = make_trial(**TASKS["autoencoder of images"], val_fraction=0.2)
    splits = load_splits(trial, data_root, CPU)
    assert isinstance(splits.train, SubsetSource)
    assert isinstance(splits.test, InMemorySource)
    assert splits.train.targets is None
    assert splits.test.targets is None


def test_an_autoencoder_of_images_that_stream_from_disk(tmp_path: Path) -> None:
    write_images(tmp_path / "images", each=8)
    folder = {"name": "image_folder", "path": "images", "size": 8, "task": "autoencoding"}
    ends = []
    for memory in (0.0, 2.0):
        dataset = {**folder, "memory_gb": memory}
        fields = {"dataset": dataset, "loss": "mse", "metrics": ["mse"], "batch_size": 8}
        splits = load_splits(make_trial(**fields), tmp_path, CPU)
        assert isinstance(splits.test, StreamingSource) == (memory == 0)
        ends.append(last_records(tmp_path, **fields)[1].final)
        clear_caches()
    assert ends[0] == ends[1]


def test_a_few_outputs_of_an_autoencoder_are_stored(data_root: Path) -> None:
    _, ended = last_records(data_root, **{**TASKS["autoencoder of images"], "val_fraction": 0.0})
    assert ended.test_outputs is not None
    assert ended.test_outputs.outputs.shape == ended.test_outputs.targets.shape == (40, 64)
    fields = {"dataset": {"name": "digits", "task": "autoencoding"}, "loss": "mse", "metrics": []}
    _, ended = last_records(data_root, **fields, epochs=1)
    assert ended.test_outputs is not None
    assert len(ended.test_outputs.outputs) == 64


def test_an_image_that_a_model_returns_is_flattened(data_root: Path) -> None:
    setup = TrainingSetup(make_trial(**TASKS["autoencoder of images"]), data_root)
    shown = setup.predict(torch.zeros(5, 1, 8, 8))
    assert shown.shape == (5, 64)
