"""Splits of a data set, and sources of batches; streaming changes nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.components.base import DataInfo, Examples, ImageTransform, RawData, Task
from harness.core.errors import InputError
from harness.experiment.trial import Trial
from harness.training import batch_sources as sources
from harness.training import data as cutting
from harness.training.batch_sources import InMemorySource, StreamingSource, SubsetSource
from harness.training.data import Splits, load_splits
from tests.support import make_trial

CPU = torch.device("cpu")
IRIS = {"name": "iris", "standardise": False}


def cut(root: Path, **fields: object) -> Splits:
    return load_splits(make_trial(**fields), root, CPU)


def rows(source: sources.BatchSource) -> set[tuple[float, ...]]:
    ((inputs, _),) = source.batches(len(source))
    return {tuple(row) for row in inputs.flatten(1).tolist()}


def test_the_test_split_is_scikit_learns(data_root: Path) -> None:
    from sklearn.datasets import load_iris
    from sklearn.model_selection import train_test_split

    x, y = load_iris(return_X_y=True)
    x_train, x_test, _, y_test = train_test_split(x, y, test_size=0.25, random_state=0)
    data = cut(data_root, dataset={**IRIS, "test_fraction": 0.25}, val_fraction=0.0)
    ((inputs, targets),) = data.test.batches(1000)
    assert np.array_equal(inputs.numpy(), x_test.astype("float32"))
    assert np.array_equal(targets.numpy(), y_test)
    assert len(data.train) == len(x_train)


def test_splits_are_disjoint_and_whole(data_root: Path) -> None:
    data = cut(data_root, val_fraction=0.25)
    assert data.val is not None
    sizes = [len(data.train), len(data.val), len(data.test)]
    assert sum(sizes) == 1797
    assert len(data.val) == pytest.approx(0.25 * (sizes[0] + sizes[1]), abs=1)
    # The bundled digits hold no two equal images, so equal rows would be shared examples.
    train, val, test = rows(data.train), rows(data.val), rows(data.test)
    assert not train & val
    assert not train & test
    assert not val & test


def test_seeds_draw_different_validation_examples_and_share_the_test_split(data_root: Path) -> None:
    first, second = (cut(data_root, seed=seed) for seed in (0, 1))
    assert first.val is not None
    assert second.val is not None
    assert rows(first.val) != rows(second.val)
    assert rows(first.test) == rows(second.test)


def test_seeds_share_their_examples_and_see_what_a_copy_would_hold(
    data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (cut(data_root, seed=seed, val_fraction=0.3) for seed in (0, 1))
    assert isinstance(first.train, SubsetSource)
    assert isinstance(second.val, SubsetSource)
    assert first.train.source is second.val.source
    monkeypatch.setattr(cutting, "_differs_in_indices", lambda _: False)
    copied = cutting._splits.__wrapped__(make_trial().dataset, data_root, 0.3, 1, CPU)
    assert copied.val is not None
    for one, other in ((second.train, copied.train), (second.val, copied.val)):
        assert len(one) == len(other)
        assert one.targets is not None
        assert other.targets is not None
        assert torch.equal(one.targets, other.targets)
        assert torch.equal(one.first(5), other.first(5))
        for order in (None, torch.randperm(len(one))):
            for batch, wanted in zip(one.batches(50, order), other.batches(50, order), strict=True):
                assert all(map(torch.equal, batch, wanted))
    assert isinstance(second.test, InMemorySource)
    assert isinstance(copied.test, InMemorySource)
    assert torch.equal(second.test.inputs, copied.test.inputs)


def test_a_null_split_seed_follows_the_trials_seed(data_root: Path) -> None:
    dataset = {"name": "digits", "split_seed": None}
    first, second = (cut(data_root, dataset=dataset, seed=seed) for seed in (0, 1))
    assert rows(first.test) != rows(second.test)


def test_stratified_splits_keep_the_classes_proportions(data_root: Path) -> None:
    data = cut(data_root, dataset={**IRIS, "stratify": True, "test_fraction": 0.2})
    assert data.test.targets is not None
    assert torch.bincount(data.test.targets).tolist() == [10, 10, 10]


def test_trials_with_equal_splits_share_them(data_root: Path) -> None:
    assert cut(data_root, lr=0.1) is cut(data_root, lr=0.2)
    assert cut(data_root, val_fraction=0.0, seed=0) is cut(data_root, val_fraction=0.0, seed=1)


def test_nothing_left_to_train_on_is_refused(data_root: Path) -> None:
    with pytest.raises(InputError, match="none to train on"):
        cut(data_root, val_fraction=0.9999)


def test_standardisation_sees_the_training_split_alone(data_root: Path) -> None:
    data = cut(data_root, dataset={"name": "wine"}, val_fraction=0.3)
    ((inputs, _),) = data.train.batches(1000)
    assert inputs.mean(0).abs().max() < 1e-6
    assert (inputs.std(0, correction=0) - 1).abs().max() < 1e-6
    assert data.val is not None
    ((held_out, _),) = data.val.batches(1000)
    assert held_out.mean(0).abs().max() > 1e-3


def test_a_constant_feature_stays_finite_on_other_examples() -> None:
    train = Examples(torch.full((10, 1), 5.0), torch.zeros(10))
    test = Examples(torch.tensor([[6.0]]), torch.zeros(1))
    raw = RawData(DataInfo(Task.REGRESSION, (1,)), train, test, standardise=True)
    scaled = cutting._preprocess(raw, {"train": train, "test": test})["test"]
    assert isinstance(scaled.inputs, Tensor)
    assert scaled.inputs.dtype == torch.float32
    assert scaled.inputs.item() == 1.0


class Lazy:
    """Images read one at a time."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


@pytest.fixture
def images() -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (23, 1, 6, 6), dtype=torch.uint8, generator=drawn)


PREPARE = ImageTransform(mean=(0.5,), std=(0.2,), size=(9, 9), channels=3)


@pytest.mark.parametrize("shuffled", [False, True])
def test_streamed_batches_equal_those_from_memory(images: Tensor, shuffled: bool) -> None:
    targets = torch.arange(23)
    order = torch.randperm(23) if shuffled else None
    resident = InMemorySource.of(images, targets, PREPARE, CPU)
    streamed = StreamingSource(Lazy(images), targets, PREPARE, CPU)
    state = torch.get_rng_state()
    pairs = list(zip(resident.batches(5, order), streamed.batches(5, order), strict=True))
    assert len(pairs) == 5
    for (x, y), (x2, y2) in pairs:
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(resident.first(3), streamed.first(3))


@pytest.mark.parametrize("at_once", [1, 4000, 1 << 20])
def test_preparing_once_equals_preparing_each_batch(
    images: Tensor, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(sources, "PREPARED_BYTES_AT_ONCE", at_once)
    once = InMemorySource.of(images, torch.arange(23), PREPARE, CPU)
    monkeypatch.setattr(sources, "PREPARE_ONCE_BYTES", 0)
    each = InMemorySource.of(images, torch.arange(23), PREPARE, CPU)
    assert once.prepare is None
    assert each.prepare is not None
    assert each.inputs.dtype == torch.uint8
    for (x, _), (x2, _) in zip(once.batches(4), each.batches(4), strict=True):
        assert torch.equal(x, x2)


def test_a_trial_pickles_by_name() -> None:
    import pickle

    trial = make_trial(optimizer={"name": "adam", "weight_decay": 0.1})
    copy: Trial = pickle.loads(pickle.dumps(trial))
    assert copy == trial
    assert copy.optimizer.component is trial.optimizer.component
