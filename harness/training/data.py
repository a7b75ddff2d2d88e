"""Loads a data set, splits it, preprocesses it, and moves it to a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Subset

from harness.components.base import (
    DataInfo,
    Dataset,
    Examples,
    RawData,
    SplitRule,
    Task,
)
from harness.components.shared.column_statistics import StandardScaler, fill_values, to_float32
from harness.components.shared.splitting import training_size, validation_size
from harness.core.errors import HarnessError
from harness.core.seeding import generator, split_random_state
from harness.experiment.trial import Choice, Trial
from harness.training.batch_sources import (
    BatchSource,
    InMemorySource,
    StreamingSource,
    SubsetSource,
)
from harness.training.planned_files import load_planned
from harness.training.shared_data import cached

if TYPE_CHECKING:
    from numpy.typing import NDArray

T = TypeVar("T")

CACHED_DATASETS = 2
"""Loaded data sets that stay in memory between trials."""
CACHED_SPLITS = 4
"""Prepared splits that stay in memory between trials, by data set, seed, fraction and device.
Seeds share their examples where possible."""


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set ready for training. val is None if `val_fraction` is 0."""

    info: DataInfo
    train: BatchSource
    val: BatchSource | None
    test: BatchSource

    def evaluated(self) -> dict[str, BatchSource]:
        """The splits that are measured at each evaluation."""
        return {"test": self.test} if self.val is None else {"val": self.val, "test": self.test}


def load_splits(trial: Trial, data_root: Path, device: torch.device, checksum: str = "") -> Splits:
    """Returns the splits of a trial's data set on its device; equal splits are shared by trials.

    checksum: of the data set, as planned; "" accepts any. Raises DataMissing if a file is missing,
    DataChanged if the data are others, InputError if a split would be empty.
    """
    check_streamed(trial, data_root, checksum)
    seed = trial.seed if _depends_on_seed(trial, data_root, checksum) else None
    return _splits(trial.dataset, data_root, trial.val_fraction, seed, device, checksum)


def check_streamed(trial: Trial, data_root: Path, checksum: str) -> None:
    """Checks examples that are read from disk during training: the files must be as planned before
    and after it. Raises DataChanged."""
    if checksum and not is_in_memory(load_dataset(trial.dataset, data_root, checksum)):
        _load_planned(trial.dataset, data_root, checksum, lambda: None)


def prepare_unseen(
    trial: Trial, data_root: Path, device: torch.device, inputs: Tensor
) -> BatchSource:
    """Preprocesses new inputs as the trial's test split is preprocessed; their targets are all 0.

    inputs: [N, …] as the data set stores its own. They may be modified.
    """
    raw = load_dataset(trial.dataset, data_root)
    seed = trial.seed if _depends_on_seed(trial, data_root) else None
    train = _split(raw, trial.val_fraction, seed)["train"]
    kind = torch.int64 if raw.info.task.is_classification else torch.float32
    shape = (len(inputs), *raw.info.target_shape)
    # Stays small where nobody reads it: an autoencoder's targets are its inputs.
    examples = Examples(inputs, torch.zeros((), dtype=kind).expand(shape))
    return _source(raw, _preprocess(raw, {"train": train, "test": examples})["test"], device)


def clear_caches() -> None:
    """Drops all data that this process keeps between trials."""
    _splits.cache_clear()
    load_dataset.cache_clear()


def _depends_on_seed(trial: Trial, data_root: Path, checksum: str = "") -> bool:
    """Whether another seed gives other splits; if not, all seeds share them."""
    rule = load_dataset(trial.dataset, data_root, checksum).split
    return trial.val_fraction > 0 or (rule is not None and rule.seed is None)


@lru_cache(maxsize=CACHED_DATASETS)
def load_dataset(choice: Choice[Dataset], data_root: Path, checksum: str = "") -> RawData:
    """Returns a data set as it was read, not split or preprocessed. checksum: see `load_splits`."""

    def load() -> RawData:
        return choice.component.load(choice.options, data_root)

    return cached(
        dataset_key(choice, data_root, checksum),
        lambda: _load_planned(choice, data_root, checksum, load),
        is_in_memory,
    )


def _load_planned(
    choice: Choice[Dataset], data_root: Path, checksum: str, load: Callable[[], T]
) -> T:
    def found() -> str:
        return choice.component.fingerprint(choice.options, data_root)

    return load_planned(f"dataset {choice.name}", checksum, found, load)


def dataset_key(choice: Choice[Dataset], data_root: Path, checksum: str = "") -> str:
    """Returns the key under which processes share a loaded data set."""
    return f"{choice.resolved()} {data_root} {checksum}"


def is_in_memory(raw: RawData) -> bool:
    """Whether all examples are in memory, not read one at a time: only those can be shared."""
    splits = [raw.train] if raw.test is None else [raw.train, raw.test]
    return all(isinstance(examples.inputs, Tensor) for examples in splits)


@lru_cache(maxsize=CACHED_SPLITS)
def _splits(
    choice: Choice[Dataset],
    data_root: Path,
    val_fraction: float,
    seed: int | None,
    device: torch.device,
    checksum: str = "",
) -> Splits:
    raw = load_dataset(choice, data_root, checksum)
    if val_fraction and _differs_in_indices(raw):
        whole = _splits(choice, data_root, 0.0, None, device, checksum)
        if isinstance(whole.train, InMemorySource):
            indices = validation_split(len(whole.train), val_fraction, seed)
            train, val = (SubsetSource.of(whole.train, chosen) for chosen in indices)
            return Splits(raw.info, train, val, whole.test)

    def make() -> Splits:
        examples = _preprocess(raw, _split(raw, val_fraction, seed))
        sources = {name: _source(raw, split, device) for name, split in examples.items()}
        return Splits(raw.info, sources["train"], sources.get("val"), sources["test"])

    if device.type != "cpu":
        return make()
    key = f"{dataset_key(choice, data_root, checksum)} {val_fraction} {seed}"
    return cached(key, make, _all_in_memory, classes=(Splits, InMemorySource))


def _differs_in_indices(raw: RawData) -> bool:
    """Whether splits of other seeds and validation fractions hold the same preprocessed examples,
    divided otherwise, and share the test split."""
    depends_on_seed = raw.split is not None and raw.split.seed is None and raw.test is None
    return not (raw.standardise or raw.imputer is not None or depends_on_seed)


def _all_in_memory(splits: Splits) -> bool:
    sources = (splits.train, *splits.evaluated().values())
    return all(isinstance(source, InMemorySource) for source in sources)


def _source(raw: RawData, examples: Examples, device: torch.device) -> BatchSource:
    targets = None if raw.info.task is Task.AUTOENCODING else examples.targets
    if isinstance(examples.inputs, Tensor):
        return InMemorySource.of(examples.inputs, targets, raw.prepare, device)
    return StreamingSource(examples.inputs, targets, raw.prepare, device)


def _split(raw: RawData, val_fraction: float, seed: int | None) -> dict[str, Examples]:
    """Returns the splits "train", "val" (unless it is empty) and "test", as stored."""
    train, test = _test_split(raw, seed)
    training, validation = validation_split(len(train), val_fraction, seed)
    if not len(validation):
        return {"train": train, "test": test}
    return {"train": _take(train, training), "val": _take(train, validation), "test": test}


def _test_split(raw: RawData, seed: int | None) -> tuple[Examples, Examples]:
    if raw.test is not None:
        return raw.train, raw.test
    rule = raw.split or SplitRule()
    counts = {"": len(raw.train)}
    if rule.stratify:
        sizes = raw.train.targets.bincount(minlength=raw.info.classes).tolist()
        names = raw.info.class_names or map(str, range(len(sizes)))  # An autoencoder has none.
        counts = dict(zip(names, sizes, strict=True))
    training_size(rule, counts)
    if rule.test_fraction == 0:
        return raw.train, raw.train
    from sklearn.model_selection import train_test_split

    random_state = split_random_state(seed or 0) if rule.seed is None else rule.seed
    indices = train_test_split(
        torch.arange(len(raw.train)).numpy(),
        test_size=rule.test_fraction,
        random_state=random_state,
        stratify=raw.train.targets.numpy() if rule.stratify else None,
    )
    train, test = (_take(raw.train, torch.from_numpy(chosen)) for chosen in indices)
    return train, test


def validation_split(n: int, fraction: float, seed: int | None) -> tuple[Tensor, Tensor]:
    """Returns the indices of training and of validation examples, each in ascending order."""
    size = validation_size(n, fraction)
    shuffled = torch.randperm(n, generator=generator(seed or 0, "split", "val"))
    return shuffled[size:].sort().values, shuffled[:size].sort().values


def _take(examples: Examples, indices: Tensor) -> Examples:
    inputs = examples.inputs
    if isinstance(inputs, Tensor):
        return Examples(inputs[indices], examples.targets[indices])
    chosen: Subset[Tensor] = Subset(inputs, indices.tolist())  # type: ignore[arg-type]
    return Examples(chosen, examples.targets[indices])


def _preprocess(raw: RawData, splits: Mapping[str, Examples]) -> Mapping[str, Examples]:
    """Returns splits of images and of float32 tables as they are, unless the data set says more.

    Tables are computed in float64: missing values (NaN) are filled in, features are standardised,
    both fitted on the training split, and the result is rounded to float32.
    Raises InputError if a column has no value in the training split, or values that float32 cannot
    represent.
    """
    changed = raw.standardise or raw.imputer is not None
    if not changed and getattr(splits["train"].inputs, "dtype", None) != torch.float64:
        return splits
    prepare = _table_preparation(raw, _features(splits["train"]))
    return {
        name: replace(examples, inputs=torch.from_numpy(prepare(_features(examples))))
        for name, examples in splits.items()
    }


def _features(examples: Examples) -> NDArray[Any]:
    """Returns the inputs as float64."""
    if not isinstance(examples.inputs, Tensor):
        raise HarnessError("a data set that is read from disk by example cannot be standardised")
    return examples.inputs.double().numpy()


def _table_preparation(raw: RawData, train: NDArray[Any]) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Returns the function from a split's inputs to its prepared inputs. train: [N, features]."""
    names = raw.columns.inputs if raw.columns else tuple(map(str, range(1, train.shape[1] + 1)))
    fill = None if raw.imputer is None else fill_values(raw.imputer, train)

    def filled(inputs: NDArray[Any]) -> NDArray[Any]:
        return inputs if fill is None else np.where(np.isnan(inputs), fill, inputs)

    scaler = StandardScaler.fit(filled(train))
    if raw.standardise:
        return lambda inputs: to_float32(scaler(filled(inputs)), names)
    return lambda inputs: to_float32(filled(inputs), names, scaler.original_deviation)
