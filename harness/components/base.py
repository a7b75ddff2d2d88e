"""The kinds of component, each a frozen record that one file declares and the registry finds.

A component's file holds its options, its record and the function that builds it; it imports
nothing of the machinery that runs it, and torch only inside functions (a grid is validated
without torch). A module offers its records as `COMPONENTS`, a tuple; it may also offer
`resolve(name)`, which returns a record for a name outside the tuple (any `torch.optim` class, say)
or None.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from harness.core.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


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


Numbers = Annotated[tuple[float, ...], Field(strict=False)]
"""A list of numbers in an options class; YAML gives a list, the record keeps a tuple."""
Integers = Annotated[tuple[int, ...], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


class Options(BaseModel):
    """Base of every component's options: typed, ranged, unknown keys refused, nothing coerced.

    Every field has a default and a description (`Field(default, description=…, gt=0)`).
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


def place(default: Any, description: str) -> Any:
    """A field that says where content lies (a path). It has no part in a trial's id: the
    content's checksum does."""
    return Field(default, description=description, json_schema_extra={"place": True})


@dataclass(frozen=True, kw_only=True)
class Component:
    """What every component states of itself.

    name: what an experiment file says. description: one line. reference: the paper or page.
    tiny: option sets the contract tests run, small and fast; together they reach every branch.
    """

    kind: ClassVar[str]
    name: str
    description: str
    reference: str
    options: type[Options] = Options
    tiny: tuple[Mapping[str, Any], ...] = field(default=({},))


def _no_files(options: Any) -> str:
    return ""


def _accept_all(options: Any, info: DataInfo) -> str | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Model(Component):
    """A network. `build(options, info, outputs)` returns a module of logits:
    [B, *info.shape] float32 → [B, outputs] float32.

    It draws its initial weights from torch's global generator, which the caller has seeded, and is
    made of modules that torch, torchvision or this package can import by name, so that it pickles.
    accepts: a reason why this data set cannot be its input, or None.
    fingerprint: a SHA-256 of files it reads (pretrained weights), or empty; raises InputError
        naming the file that is missing. Without torch.
    channels_last: whether it trains faster on a CPU with a pixel's channels side by side in memory
        (torch.channels_last). Its modules then may not call `view` on what lies so.
    """

    kind = "models"
    build: Callable[[Any, DataInfo, int], nn.Module]
    accepts: Callable[[Any, DataInfo], str | None] = _accept_all
    fingerprint: Callable[[Any], str] = _no_files
    channels_last: bool = False


@dataclass(frozen=True, kw_only=True)
class Optimizer(Component):
    """An update rule. `build(options, parameters, lr)` returns a `torch.optim.Optimizer`.

    torch_class: the `torch.optim` class, for the contract tests that compare signatures.
    """

    kind = "optimizers"
    torch_class: str
    build: Callable[[Any, Iterable[nn.Parameter], float], torch.optim.Optimizer]


@dataclass(frozen=True, slots=True)
class Horizon:
    """The length of a training run, which some schedules need: epochs, and batches an epoch.

    warmup: batches at the beginning that a warm-up takes, before the schedule's own time.
    """

    epochs: int
    steps_per_epoch: int
    warmup: int = 0

    def units(self, by: str) -> int:
        """The length after the warm-up, counted in "epoch" or "batch"; at least 1.

        The last epoch counted is shorter than the others where the warm-up ends in mid-epoch.
        """
        batches = max(self.epochs * self.steps_per_epoch - self.warmup, 1)
        return batches if by == "batch" else -(-batches // self.steps_per_epoch)


class SchedulerOptions(Options):
    """What every scheduler has: a linear warm-up in front of it.

    The learning rate rises linearly by batch from `warmup_start` × lr to lr over `warmup_epochs`;
    then the schedule proper begins, over what is left of the run. With a fraction of an epoch of
    warm-up, the schedule's epochs are counted from there and end in mid-epoch.
    """

    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear warm-up in front")
    warmup_start: float = Field(
        0.0, ge=0, le=1, description="the warm-up's first lr, as a fraction of lr"
    )


class TimedOptions(SchedulerOptions):
    """Options of a schedule that is a function of time."""

    by: Literal["epoch", "batch"] = Field("epoch", description="the unit of its steps")


class MetricOptions(SchedulerOptions):
    """Options of a schedule that reads a metric."""

    metric: str = Field("val/loss", description="what it watches, measured after each evaluation")


Schedule = Callable[[float, int], float]
"""`schedule(lr, t)`: the learning rate at unit t (0, 1, 2, …) for the base rate lr. Pure."""


class MetricSchedule(Protocol):
    """A schedule that reads a metric after each epoch. Its state is a mapping of primitives."""

    def observe(self, value: float) -> None: ...

    def lr(self, base: float) -> float: ...

    def state(self) -> dict[str, float]: ...

    def load(self, state: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Scheduler(Component):
    """A learning-rate schedule.

    build: for `steps="time"` a `Schedule`, whose unit is the option `by` (a `TimedOptions`); for
        `steps="metric"` a `MetricSchedule`, whose option `metric` names what it watches (a
        `MetricOptions`).
    needs_total: whether the schedule depends on the run's length with these options; a finished
        trial can be continued with more epochs only where it does not.
    """

    kind = "schedulers"
    options: type[SchedulerOptions] = TimedOptions
    steps: Literal["time", "metric"] = "time"
    build: Callable[[Any, Horizon], Schedule | MetricSchedule]
    needs_total: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """A data set. `root` is the data folder (`HARNESS_DATA`).

    info: what is known before loading; cheap, without torch; may read a header or a folder list.
    fingerprint: a SHA-256 (hex) of the bytes the data comes from, without importing torch or
        scikit-learn; raises `DataMissing` naming the file wanted and where.
    load: reads it. Deterministic; no randomness, no splitting.
    imports: modules that loading and splitting it import and that take long, which worker processes
        then share. They may start no thread.
    """

    kind = "datasets"
    info: Callable[[Any, Path], DataInfo]
    fingerprint: Callable[[Any, Path], str]
    load: Callable[[Any, Path], RawData]
    imports: tuple[str, ...] = ()


LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]
"""(logits [B, outputs], targets [B] int64 or [B, T] float32) → the loss of each example, [B]."""


@dataclass(frozen=True, kw_only=True)
class Loss(Component):
    """What training minimises.

    tasks: those it fits. outputs: the number of logits it wants of the model.
    default_for: tasks whose default it is.
    """

    kind = "losses"
    tasks: frozenset[Task]
    outputs: Callable[[DataInfo], int]
    build: Callable[[Any], LossFunction]
    default_for: frozenset[Task] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Metric(Component):
    """A measure of predictions over a whole split, exact over examples (never a mean of batches).

    compute: (outputs [N, O] float32 logits, targets [N] int64 or [N, T] float32) → a number, or
        NaN where it is undefined (ROC-AUC with one class). Both on any device. With one logit for
        two classes, class 1 is predicted where the logit is above 0.
    stacked: the same of K models at once, (outputs [K, N, O], targets [K, N] or [K, N, T]) → [K]
        float64 on the CPU, NaN where undefined; None where there is nothing quicker than K calls.
    unit: "fraction", "target²", … direction: which way is better.
    min_classes: fewest classes it says something about (top-5: 6).
    default_for: tasks that record it at each epoch by default.
    """

    kind = "metrics"
    tasks: frozenset[Task]
    direction: Literal["max", "min"]
    unit: str
    compute: Callable[[Tensor, Tensor], float]
    stacked: Callable[[Tensor, Tensor], Tensor] | None = None
    min_classes: int = 0
    default_for: frozenset[Task] = frozenset()


AugmentFunction = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""(prepared batch [B, C, H, W] float32, generator on the batch's device) → the same shape."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(Component):
    """A random change of training images, drawn anew for each image of each batch."""

    kind = "augmentations"
    build: Callable[[Any], AugmentFunction]


KINDS: Mapping[str, type[Component]] = {
    cls.kind: cls for cls in (Model, Optimizer, Scheduler, Dataset, Loss, Metric, Augmentation)
}
