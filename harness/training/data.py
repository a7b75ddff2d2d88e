"""From a loaded data set to splits on a device: cut, standardise, prepare, move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil
from pathlib import Path

import torch
from torch import Tensor

from harness.components.base import (
    DataInfo,
    Dataset,
    Examples,
    Imputer,
    LazyInputs,
    RawData,
    SplitRule,
)
from harness.core.errors import HarnessError, InputError
from harness.core.seeding import generator, split_random_state
from harness.experiment.trial import Choice, Trial
from harness.training.batch_sources import (
    BatchSource,
    InMemorySource,
    StreamingSource,
    SubsetSource,
)
from harness.training.shared_data import cached

KEPT_DATASETS = 2
"""Loaded data sets kept in memory between trials."""
KEPT_SPLITS = 4
"""Prepared splits kept between trials: one for each (data set, seed, fraction, device), whose
examples are held once where they can be."""


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set ready to train on. val is None where `val_fraction` is 0."""

    info: DataInfo
    train: BatchSource
    val: BatchSource | None
    test: BatchSource

    def evaluated(self) -> dict[str, BatchSource]:
        """The splits measured at each evaluation."""
        return {"test": self.test} if self.val is None else {"val": self.val, "test": self.test}


def load_splits(trial: Trial, data_root: Path, device: torch.device) -> Splits:
    """The splits of a trial's data set, on its device; shared with other trials that ask the same.

    Raises DataMissing where a file is absent, InputError where a split would be empty.
    """
    seed = trial.seed if _follows_seed(trial, data_root) else None
    return _splits(trial.dataset, data_root, trial.val_fraction, seed, device)


def load_dataset(trial: Trial, data_root: Path) -> RawData:
    """A trial's data set as it was read, unsplit and unprepared."""
    return _load(trial.dataset, data_root)


def prepare_unseen(
    trial: Trial, data_root: Path, device: torch.device, inputs: Tensor
) -> BatchSource:
    """Inputs from elsewhere, made ready as the trial's test split is; their targets are all 0.

    inputs: [N, …] as the data set stores its own; not kept, and not to be used afterwards.
    """
    raw = _load(trial.dataset, data_root)
    seed = trial.seed if _follows_seed(trial, data_root) else None
    train, _, _ = _cut(raw, trial.val_fraction, seed)
    shape, kind = ((), torch.int64) if raw.info.classes else ((raw.info.targets,), torch.float32)
    new = Examples(inputs, torch.zeros((len(inputs), *shape), dtype=kind))
    _, _, new = _completed(raw, train, None, new)
    return _source(raw, new, device)


def clear_caches() -> None:
    """Drop all data kept between trials."""
    _splits.cache_clear()
    _load.cache_clear()


def _follows_seed(trial: Trial, data_root: Path) -> bool:
    """Whether another seed would cut other splits; where not, seeds share one copy."""
    rule = _load(trial.dataset, data_root).split
    return trial.val_fraction > 0 or (rule is not None and rule.seed is None)


@lru_cache(maxsize=KEPT_DATASETS)
def _load(choice: Choice[Dataset], data_root: Path) -> RawData:
    return cached(
        dataset_key(choice, data_root),
        lambda: choice.component.load(choice.options, data_root),
        is_in_memory,
    )


def dataset_key(choice: Choice[Dataset], data_root: Path) -> str:
    """What a loaded data set is shared under."""
    return f"{choice.resolved()} {data_root}"


def is_in_memory(raw: RawData) -> bool:
    """Whether the examples are in memory; those read one at a time have nothing to share."""
    load_splits = [raw.train] if raw.test is None else [raw.train, raw.test]
    return all(isinstance(examples.inputs, Tensor) for examples in load_splits)


@lru_cache(maxsize=KEPT_SPLITS)
def _splits(
    choice: Choice[Dataset],
    data_root: Path,
    val_fraction: float,
    seed: int | None,
    device: torch.device,
) -> Splits:
    raw = _load(choice, data_root)
    if val_fraction and _differs_in_rows(raw):
        whole = _splits(choice, data_root, 0.0, None, device)
        if isinstance(whole.train, InMemorySource):
            parts = validation_split(len(whole.train), val_fraction, seed)
            kept, held_out = (SubsetSource.of(whole.train, rows) for rows in parts)
            return Splits(raw.info, kept, held_out, whole.test)

    def make() -> Splits:
        return _prepared(raw, val_fraction, seed, device)

    if device.type != "cpu":
        return make()
    key = f"{dataset_key(choice, data_root)} {val_fraction} {seed}"
    return cached(key, make, _all_resident, kinds=(Splits, InMemorySource))


def _differs_in_rows(raw: RawData) -> bool:
    """Whether seeds and validation fractions differ in which examples are where alone, and not in
    the test split or in what becomes of an example."""
    cut_by_seed = raw.split is not None and raw.split.seed is None and raw.test is None
    return not (raw.standardise or raw.imputer is not None or cut_by_seed)


def _all_resident(made: Splits) -> bool:
    return all(isinstance(s, InMemorySource) for s in (made.train, *made.evaluated().values()))


def _prepared(raw: RawData, val_fraction: float, seed: int | None, device: torch.device) -> Splits:
    train, val, test = _completed(raw, *_cut(raw, val_fraction, seed))
    return Splits(
        raw.info,
        _source(raw, train, device),
        _source(raw, val, device) if val else None,
        _source(raw, test, device),
    )


def _source(raw: RawData, examples: Examples, device: torch.device) -> BatchSource:
    if isinstance(examples.inputs, Tensor):
        return InMemorySource.of(examples.inputs, examples.targets, raw.prepare, device)
    return StreamingSource(examples.inputs, examples.targets, raw.prepare, device)


def _cut(
    raw: RawData, val_fraction: float, seed: int | None
) -> tuple[Examples, Examples | None, Examples]:
    """The three splits, as stored."""
    train, test = _with_test(raw, seed)
    kept, held_out = validation_split(len(train), val_fraction, seed)
    if not len(held_out):
        return train, None, test
    return _take(train, kept), _take(train, held_out), test


def _completed(
    raw: RawData, train: Examples, val: Examples | None, test: Examples
) -> tuple[Examples, Examples | None, Examples]:
    """The splits with gaps filled and features scaled by what the training split shows."""
    if raw.imputer is not None:
        train, val, test = fill_missing(raw.imputer, train, val, test)
    if raw.standardise:
        train, val, test = standardise(train, val, test)
    return train, val, test


def _with_test(raw: RawData, seed: int | None) -> tuple[Examples, Examples]:
    if raw.test is not None:
        return raw.train, raw.test
    rule = raw.split or SplitRule()
    if rule.test_fraction == 0:
        return raw.train, raw.train
    from sklearn.model_selection import train_test_split

    random_state = split_random_state(seed or 0) if rule.seed is None else rule.seed
    kept, held_out = train_test_split(
        torch.arange(len(raw.train)).numpy(),
        test_size=rule.test_fraction,
        random_state=random_state,
        stratify=raw.train.targets.numpy() if rule.stratify else None,
    )
    return _take(raw.train, torch.from_numpy(kept)), _take(raw.train, torch.from_numpy(held_out))


def validation_split(n: int, fraction: float, seed: int | None) -> tuple[Tensor, Tensor]:
    """Indices kept for training and held out for validation, each in ascending order."""
    size = ceil(n * fraction)
    if size >= n:
        raise InputError(
            f"val_fraction: {fraction} of {n} training examples leaves none to train on"
        )
    shuffled = torch.randperm(n, generator=generator(seed or 0, "split", "val"))
    return shuffled[size:].sort().values, shuffled[:size].sort().values


def _take(examples: Examples, indices: Tensor) -> Examples:
    inputs = examples.inputs
    if isinstance(inputs, Tensor):
        return Examples(inputs[indices], examples.targets[indices])
    return Examples(_Subset(inputs, tuple(indices.tolist())), examples.targets[indices])


@dataclass(frozen=True, slots=True)
class _Subset:
    """Some of a data set's lazy inputs, in a given order."""

    inputs: LazyInputs
    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Tensor:
        return self.inputs[self.indices[index]]


@dataclass(frozen=True, slots=True)
class StandardScaler:
    """What scikit-learn's StandardScaler does: (x − mean) / deviation, each feature by itself.

    mean, deviation: [features] float64; the population's deviation, 1 for a constant feature.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def fit(cls, inputs: Tensor) -> StandardScaler:
        """inputs: [N, features], of the training split."""
        exact = inputs.double()
        mean, deviation = exact.mean(0), exact.std(0, correction=0)
        # What is left of a constant feature after rounding is no spread.
        smallest = 10 * torch.finfo(torch.float64).eps * mean.abs().clamp(min=1)
        return cls(mean, torch.where(deviation > smallest, deviation, 1.0))

    def __call__(self, inputs: Tensor) -> Tensor:
        return ((inputs.double() - self.mean) / self.deviation).float()


def fill_missing(
    impute: Imputer, train: Examples, val: Examples | None, test: Examples
) -> tuple[Examples, Examples | None, Examples]:
    """The three splits with what is missing (NaN) filled in by what the training split shows.

    Raises InputError where it shows nothing of a column.
    """
    fill = impute.fit(_resident(train))

    def filled(examples: Examples) -> Examples:
        inputs = _resident(examples)
        return replace(examples, inputs=inputs.where(~inputs.isnan(), fill))

    return filled(train), filled(val) if val else None, filled(test)


def standardise(
    train: Examples, val: Examples | None, test: Examples
) -> tuple[Examples, Examples | None, Examples]:
    """The three splits with the training split's mean and deviation taken out of each feature."""
    scale = StandardScaler.fit(_resident(train))
    return (
        replace(train, inputs=scale(_resident(train))),
        replace(val, inputs=scale(_resident(val))) if val else None,
        replace(test, inputs=scale(_resident(test))),
    )


def _resident(examples: Examples) -> Tensor:
    if not isinstance(examples.inputs, Tensor):
        raise HarnessError("a data set read from disk by example cannot be standardised")
    return examples.inputs
