"""What a data set hands to training: examples, what they are, and how to prepare a batch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Literal, Protocol

from harness.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Task(StrEnum):
    """What is learned. A two-class problem is `BINARY`: some losses give it one logit, some two."""

    MULTICLASS = "multiclass"
    BINARY = "binary"
    REGRESSION = "regression"

    @property
    def is_classification(self) -> bool:
        return self is not Task.REGRESSION


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What is known of a data set before it is loaded; models and losses are chosen by it.

    shape: of one prepared example, without the batch: (features,) or (channels, height, width).
    classes: the classes' names in the order of their numbers; empty for regression.
    targets: the number of values a regression predicts; 1 for classification.
    """

    task: Task
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    targets: int = 1

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def features(self) -> int:
        return prod(self.shape)


class LazyInputs(Protocol):
    """Inputs too large to hold: read one at a time, in worker processes of a DataLoader.

    Must be picklable. `self[i]` is the i-th example as a tensor of the stored (unprepared) shape.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs with their targets, unprepared.

    inputs: Tensor [N, …], uint8 for images and float32 for tables, or `LazyInputs`.
    targets: Tensor [N] of int64 class numbers, or [N, targets] of float32 for regression.
    """

    inputs: Tensor | LazyInputs
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class ImagePrepare:
    """How stored uint8 images become model inputs: scale to [0, 1], resize, repeat one channel,
    normalise. A pure function of the batch: no randomness.

    size: (height, width) to resize to (antialiased bilinear), or None to leave as stored.
    channels: number of channels wanted; one stored channel is repeated. None leaves as stored.
    mean, std: for each channel, or one value for all; in units of the [0, 1] scale.
    maximum: the stored value that means 1.0.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None
    channels: int | None = None
    maximum: float = 255.0

    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, C, H, W] uint8, on any device. Returns [B, C', H', W'] float32."""
        import torch
        from torch.nn import functional

        batch = images.to(torch.float32).div_(self.maximum)
        if self.size is not None and tuple(batch.shape[-2:]) != self.size:
            batch = functional.interpolate(
                batch, self.size, mode="bilinear", align_corners=False, antialias=True
            )
        if self.channels is not None and batch.shape[1] != self.channels:
            batch = batch.repeat(1, self.channels, 1, 1)
        mean, std = (_channels(values, batch.device) for values in (self.mean, self.std))
        return batch.sub_(mean).div_(std)


@cache
def _channels(values: tuple[float, ...], device: torch.device) -> Tensor:
    """[1, C, 1, 1], made once a process: moving it to a GPU for each batch would wait for that."""
    import torch

    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(1, -1, 1, 1)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How examples without a test set of their own are cut: scikit-learn's `train_test_split`.

    seed: its `random_state`; None follows the trial's seed. stratify: keep class proportions.
    test_fraction 0 tests on the training examples themselves (truth tables, say).
    """

    test_fraction: float = 0.2
    seed: int | None = 0
    stratify: bool = False


@dataclass(frozen=True, slots=True)
class Impute:
    """How values missing from a table's inputs (NaN) are filled in: by what the training split
    alone shows.

    by: a column's mean or median over its known values.
    columns: the inputs' names, for messages.
    categories: ranges [start, stop) of columns that encode one category as 0s and a 1; a missing
        one becomes the most frequent, the first of equals.
    """

    by: Literal["mean", "median"]
    columns: tuple[str, ...]
    categories: tuple[tuple[int, int], ...] = ()

    def fit(self, train: Tensor) -> Tensor:
        """What to put in place of each column's NaN: [features] of `train` [N, features].

        Raises InputError naming the columns that have no known value.
        """
        import torch

        unknown = train.isnan().all(0)
        if unknown.any():
            names = [self.columns[i] for i in unknown.nonzero().flatten().tolist()]
            raise InputError(f"no value to impute from in the training split: {', '.join(names)}")
        if self.by == "mean":
            fill = train.double().nanmean(0).float()
        else:  # a column at a time: torch has quantiles of 16 million values at most
            fill = torch.stack([column.nanquantile(0.5) for column in train.T])
        for start, stop in self.categories:
            fill[start:stop] = 0
            fill[start + int(torch.nansum(train[:, start:stop], 0).argmax())] = 1
        return fill


@dataclass(frozen=True, slots=True)
class TableColumns:
    """Which columns of a table are a data set's inputs, so that new rows become the same inputs.

    numeric: columns taken as numbers, in the order of the inputs.
    categorical: then columns with their categories, each category an input of 0 or 1.
    header: whether such a table always begins with a line of names; otherwise it may.
    separator, decimal: how such a table is written.
    """

    numeric: tuple[str, ...]
    categorical: tuple[tuple[str, tuple[str, ...]], ...] = ()
    header: bool = False
    separator: str = ","
    decimal: str = "."

    @property
    def names(self) -> tuple[str, ...]:
        """The columns' names, in the order of the inputs."""
        return self.numeric + tuple(name for name, _ in self.categorical)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs' names: "age", "colour=black"."""
        encoded = (f"{name}={level}" for name, levels in self.categorical for level in levels)
        return (*self.numeric, *encoded)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The inputs [start, stop) that encode each categorical column."""
        found = []
        start = len(self.numeric)
        for _, levels in self.categorical:
            found.append((start, start + len(levels)))
            start += len(levels)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class RawData:
    """A loaded data set, before it is split, standardised, prepared and moved to a device.

    test: the data set's own test examples, or None where `split` cuts them from `train`.
    standardise: subtract the mean and divide by the standard deviation of each feature, both
        taken from the training split alone (after validation examples are taken out).
    prepare: for images; None where inputs are ready as stored.
    impute: how NaN in a table is filled in, before it is standardised; None where there is none.
    columns: what a table's inputs are made of; None for images, and where no names are known.
    """

    info: DataInfo
    train: Examples
    test: Examples | None = None
    split: SplitRule | None = None
    standardise: bool = False
    prepare: ImagePrepare | None = None
    impute: Impute | None = None
    columns: TableColumns | None = None
