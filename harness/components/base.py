"""The interface of a component: what its author imports from the harness.

A component is one file in `harness/components/<kind>/`. The file declares a class of options, a
function that builds the component, and a frozen record of its kind (`Model`, `Optimizer`,
`Scheduler`, `Dataset`, `Loss`, `Metric`, `Augmentation`, `TrainingStep` or `TrainingLoop`) in the
tuple `COMPONENTS`:

    COMPONENTS = (Scheduler(name="step", options=StepOptions, build=build, …),)

A module may also define `resolve(name)`. It returns a record for a name that is not in
`COMPONENTS` (any class of `torch.optim`, for example), or None.

Components import torch inside functions only, because a grid is validated without it.

This page has three parts: what a data set provides, the options, and the kinds of component.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cache
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, NamedTuple, Protocol

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from harness.core.text import snake_case

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.components.trial_context import TrialContext


# ---------------------------------------------------------------- what a data set provides


class Task(StrEnum):
    """What is learned.

    MULTICLASS, BINARY: one class of several, or of two. ORDINAL: one class, and the classes have an
    order. MULTILABEL: any number of labels. REGRESSION: numbers. COUNT: whole numbers from 0 on.
    AUTOENCODING: the input itself.
    """

    MULTICLASS = "multiclass"
    BINARY = "binary"
    ORDINAL = "ordinal"
    MULTILABEL = "multilabel"
    REGRESSION = "regression"
    COUNT = "count"
    AUTOENCODING = "autoencoding"

    @property
    def is_classification(self) -> bool:
        """Whether each example has one class: its target is the number of a class."""
        return self in (Task.MULTICLASS, Task.BINARY, Task.ORDINAL)


@dataclass(frozen=True, slots=True)
class DataInfo:
    """What is known of a data set before it is loaded. Models and losses are built from it.

    shape: of one preprocessed example: (features,) or (channels, height, width).
    class_names: of the classes or labels, in the order of their numbers; empty where there are
        none.
    targets: the number of values of an example's target: 1 for a class, the number of labels, of a
        regression's values, or of the features of an autoencoder's input.
    examples: those to train on, with the validation examples that `val_fraction` takes from them;
        None if their number is known only after loading.
    outputs: how many values the model must return for each example, as the loss wants; 0 until a
        model is built.
    tokens: how many different token numbers there are, if inputs are such numbers, as int64; 0 if
        inputs are floats.
    """

    task: Task
    shape: tuple[int, ...]
    class_names: tuple[str, ...] = ()
    targets: int = 1
    examples: int | None = None
    outputs: int = 0
    tokens: int = 0

    @property
    def classes(self) -> int:
        """The number of classes or labels; 0 where there are none."""
        return len(self.class_names)

    @property
    def target_shape(self) -> tuple[int, ...]:
        """The shape of an example's target."""
        return () if self.task.is_classification else (self.targets,)

    def for_task(self, task: str) -> DataInfo:
        """Returns the same data for an autoencoder if `task` is "autoencoding"; else as they are.

        task: an option of a data set.
        """
        if task != Task.AUTOENCODING:
            return self
        return replace(self, task=Task.AUTOENCODING, class_names=(), targets=self.features)

    @property
    def channels(self) -> int:
        """The channels of an image; 0 for other examples."""
        return self.shape[0] if self.is_image else 0

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    @property
    def features(self) -> int:
        return prod(self.shape)


class LazyInputs(Protocol):
    """Inputs that do not fit in memory. Worker processes of a DataLoader read them one at a time.

    Must be picklable. `self[i]` returns example i as a tensor, before preprocessing.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Tensor: ...


@dataclass(frozen=True, slots=True)
class Examples:
    """Inputs and their targets, before preprocessing.

    inputs: [N, …], uint8 for images, or float32 for those of more than 8 bits; float64 for tables,
        which are rounded to float32 once they are prepared (float32 is taken as it is); or
        `LazyInputs`.
    targets: [N] int64 class numbers, or [N, targets] float32: values of a regression, or 1 for
        each label that an example has and else 0. Those of an autoencoder are not read.
    """

    inputs: Tensor | LazyInputs
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, slots=True)
class ImageTransform:
    """Converts stored images to model inputs. It is deterministic.

    In this order: scale to [0, 1], resize, repeat a single channel, subtract `mean`, divide by
    `std`.

    mean, std: one value per channel, or one for all, on the [0, 1] scale.
    size: (height, width) to resize to (bilinear, antialiased); None keeps the stored size.
    channels: repeat a single stored channel to this many; None keeps the stored number.
    maximum: the stored value that becomes 1.0.
    """

    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    size: tuple[int, int] | None = None
    channels: int | None = None
    maximum: float = 255.0

    def __call__(self, images: Tensor) -> Tensor:
        """images: [B, C, H, W] as stored, on any device. Returns [B, C', H', W'] float32."""
        import torch
        from torch.nn import functional

        batch = images.to(torch.float32, copy=True).div_(self.maximum)
        if self.size is not None and tuple(batch.shape[-2:]) != self.size:
            batch = functional.interpolate(
                batch, self.size, mode="bilinear", align_corners=False, antialias=True
            )
        if self.channels is not None and batch.shape[1] != self.channels:
            batch = batch.repeat(1, self.channels, 1, 1)
        mean, std = (_per_channel(values, batch.device) for values in (self.mean, self.std))
        return batch.sub_(mean).div_(std)


@cache
def _per_channel(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Returns [1, C, 1, 1]. It is cached, as each copy to a GPU would wait for the GPU."""
    import torch

    with torch.inference_mode(False):
        return torch.tensor(values, device=device).view(1, -1, 1, 1)


@dataclass(frozen=True, slots=True)
class SplitRule:
    """How a test split is cut from a data set without one, as by sklearn's `train_test_split`.

    test_fraction: 0 tests on the training examples themselves (for truth tables, for example).
    seed: the `random_state`; None follows the trial's seed.
    stratify: keep the class proportions.
    """

    test_fraction: float = 0.2
    seed: int | None = 0
    stratify: bool = False


@dataclass(frozen=True, slots=True)
class Imputer:
    """Fills missing values (NaN) of a table with statistics of the training split.

    strategy: a column is filled with the mean or the median of its known values.
    columns: the names of the inputs, for messages.
    categories: ranges [start, stop) of inputs that one-hot encode a category. A missing category
        becomes the most frequent one; of equally frequent ones, the first.
    """

    strategy: Literal["mean", "median"]
    columns: tuple[str, ...]
    categories: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class TableColumns:
    """The columns of a table that become inputs. New rows are encoded with it for prediction.

    numeric: columns that are read as numbers, in the order of the inputs.
    categorical: the columns that follow, each with its categories, which are one-hot encoded.
    text: categorical columns that are read as they are written, so that 007 and 7 are two.
    header: True if such a table always begins with a header line; otherwise it may.
    separator, decimal: the CSV dialect.
    """

    numeric: tuple[str, ...]
    categorical: tuple[tuple[str, tuple[str, ...]], ...] = ()
    text: tuple[str, ...] = ()
    header: bool = False
    separator: str = ","
    decimal: str = "."

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in the order of the inputs."""
        return self.numeric + tuple(name for name, _ in self.categorical)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs: "age", "colour=black"."""
        encoded = (f"{name}={level}" for name, levels in self.categorical for level in levels)
        return (*self.numeric, *encoded)

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The range [start, stop) of inputs that encodes each categorical column."""
        widths = (len(levels) for _, levels in self.categorical)
        return tuple(pairwise(accumulate(widths, initial=len(self.numeric))))


@dataclass(frozen=True, slots=True)
class RawData:
    """A loaded data set, before it is split, preprocessed and moved to a device.

    test: the data set's own test examples; None if `split` cuts them from `train`.
    standardise: subtract each feature's mean and divide by its standard deviation, both computed
        on the training split, without its validation examples.
    prepare: the preprocessing of images; None if inputs are used as stored.
    imputer: fills missing values before standardisation; None if there are none.
    columns: the columns of a table; None for images, and for tables without column names.
    """

    info: DataInfo
    train: Examples
    test: Examples | None = None
    split: SplitRule | None = None
    standardise: bool = False
    prepare: ImageTransform | None = None
    imputer: Imputer | None = None
    columns: TableColumns | None = None


# ---------------------------------------------------------------- options


class Options(BaseModel):
    """Base class of a component's options. Values are validated and never coerced.

    Every field has a type, a default and a description: `Field(0.9, ge=0, lt=1, description=…)`.
    A key that is not a field is refused.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, protected_namespaces=()
    )


Numbers = Annotated[tuple[float, ...], Field(strict=False)]
"""Type of an option that is a list of numbers. The list of an experiment file becomes a tuple."""
Integers = Annotated[tuple[int, ...], Field(strict=False)]
Names = Annotated[tuple[str, ...], Field(strict=False)]


def not_in_id(default: Any, description: str) -> Any:
    """A pydantic field that is not part of a trial's id, such as a path or a download switch.

    The id covers the content instead, through the component's `fingerprint`.
    """
    return Field(default, description=description, json_schema_extra={"not_in_id": True})


def file_option(default: Any, description: str) -> Any:
    """A pydantic field that names a file or a folder of the user. It is no part of a trial's id.

    A relative path is looked for beside the experiment file first. If it is there, the option holds
    its absolute path.
    """
    return Field(
        default, description=description, json_schema_extra={"not_in_id": True, "file": True}
    )


NEW_OPTION: Final = "not_in_id_at_default"
"""The mark of an option that `new_option` declares, in its JSON Schema."""


def new_option(default: Any, description: str, **limits: Any) -> Any:
    """A pydantic field for an option that a component got after its first release.

    The option is a part of a trial's id only where it differs from its default, so that stored
    trials keep their ids.

    limits: further arguments of pydantic's `Field` (gt, le, …).
    """
    return Field(default, description=description, json_schema_extra={NEW_OPTION: True}, **limits)


# ---------------------------------------------------------------- the kinds


@dataclass(frozen=True, kw_only=True)
class Component:
    """The fields that all kinds share.

    name: what an experiment file writes.
    description: one line.
    reference: the paper or the page that defines it.
    options: its class of options.
    tiny: sets of options that the contract tests run. They should be small and fast, and together
        reach every branch.
    revision: raised when the component changes so that the same options give other numbers. Above
        1 it is a part of the id of the component's trials. A function, `(options) → revision`,
        where other numbers come with some options only.
    code: the identity of the user's code that it comes from, a part of that id too; "" for a
        component of the harness or of a plugin.
    """

    kind: ClassVar[str]
    name: str
    description: str
    reference: str
    options: type[Options] = Options
    tiny: tuple[Mapping[str, Any], ...] = field(default=({},))
    revision: int | Callable[[Any], int] = 1
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class Model(Component):
    """A network.

    build: `(options, info, outputs) → nn.Module`, which maps [B, *info.shape] float32, or int64 if
        inputs are token numbers, to logits [B, outputs] float32. It draws initial weights from
        torch's global generator, which the caller has seeded. Its modules are importable by name,
        so that it can be pickled.
    accepts: `(options, info)` → why this data set cannot be its input, or None.
    fingerprint: `(options)` → the SHA-256 of the files that it reads (pretrained weights), or "".
        Raises InputError that names a missing file. Does not import torch.
    channels_last: True if it trains faster on a CPU in torch's `channels_last` memory format. Its
        modules then must not call `view` on such tensors.
    takes_tokens: whether its inputs may be token numbers.
    place: where it is defined, "my_net.py:12"; "" for a model of the harness.
    """

    kind = "models"
    build: Callable[[Any, DataInfo, int], nn.Module]
    accepts: Callable[[Any, DataInfo], str | None] = lambda _options, _info: None
    fingerprint: Callable[[Any], str] = lambda _options: ""
    channels_last: bool = False
    takes_tokens: bool = False
    place: str = ""


def _in_one_order(kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Returns kinds of parameters without duplicates and in one order, so that one set of them has
    one id."""
    return tuple(sorted(set(kinds)))


NoDecay = Annotated[
    tuple[Literal["bias", "embedding", "norm"], ...],
    Field(strict=False),
    AfterValidator(_in_one_order),
]


class DecayOptions(Options):
    """Options of an optimizer with an option `weight_decay`.

    The harness itself sets the weight decay of these parameters to 0: `settings` leaves the option
    out.
    """

    no_decay: NoDecay = new_option(
        (), "parameters without weight decay, by kind: bias, norm (of normalisations), embedding"
    )

    def settings(self) -> dict[str, Any]:
        """Returns the options that the optimizer's class takes."""
        return self.model_dump(exclude={"no_decay"})


NamedParameter = tuple[str, "nn.Parameter"]
OptimizerBuilder = Callable[[Any, Iterable[NamedParameter], float], "torch.optim.Optimizer"]
"""(options, named parameters, lr) → optimizer."""


def _never(_options: Any) -> bool:
    return False


def _no_reason(_options: Any) -> str:
    return ""


@dataclass(frozen=True, kw_only=True)
class Optimizer(Component):
    """An optimizer.

    build: `(options, named_parameters, lr) → torch.optim.Optimizer`, where `named_parameters` is
        what `nn.Module.named_parameters` yields. torch accepts the pairs in place of parameters.
    torch_class: the name of the `torch.optim` class that it builds, with whose signature the
        contract tests compare its options; "" for an optimizer that is not in torch.
    needs_closure: `(options)` → whether `step` must be given a closure that evaluates the loss
        again.
    one_by_one: `(options)` → why its trials cannot train in a stack; "" if they can.
    """

    kind = "optimizers"
    torch_class: str = ""
    build: OptimizerBuilder
    needs_closure: Callable[[Any], bool] = _never
    one_by_one: Callable[[Any], str] = _no_reason

    def takes_any_layout(self, options: Any) -> bool:
        """Whether parameters may be channels last: others than torch's optimizers, and LBFGS,
        often flatten them by `view`."""
        return bool(self.torch_class) and not self.needs_closure(options)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The length of a training run, which some schedules need.

    warmup: the number of batches of warm-up, which precede the schedule.
    """

    epochs: int
    steps_per_epoch: int
    warmup: int = 0

    def units(self, by: str) -> int:
        """Returns the length after the warm-up in units of "epoch" or "batch"; at least 1.

        Where the warm-up ends within an epoch, the last epoch is shorter than the others.
        """
        batches = max(self.epochs * self.steps_per_epoch - self.warmup, 1)
        return batches if by == "batch" else -(-batches // self.steps_per_epoch)


class SchedulerOptions(Options):
    """Options that every scheduler has: a linear warm-up before the schedule.

    Over `warmup_epochs`, the learning rate rises linearly, batch by batch, from
    `warmup_start` × lr to lr. The schedule covers the rest of the run. If the warm-up ends within
    an epoch, the schedule counts its epochs from there.
    """

    warmup_epochs: float = Field(
        0.0, ge=0, description="epochs of linear warm-up before the schedule"
    )
    warmup_start: float = Field(
        0.0, ge=0, le=1, description="first learning rate of the warm-up, as a fraction of lr"
    )


class TimeScheduleOptions(SchedulerOptions):
    """Options of a schedule that is a function of time."""

    by: Literal["epoch", "batch"] = Field("epoch", description="unit of the schedule's steps")


class MetricScheduleOptions(SchedulerOptions):
    """Options of a schedule that follows a metric."""

    metric: str = Field(
        "val/loss", description="metric that it follows, measured at each evaluation"
    )


Schedule = Callable[[float, int], float]
"""`schedule(lr, t)` returns the learning rate at unit t (0, 1, 2, …) for the base rate lr."""


class MetricSchedule(Protocol):
    """A schedule that follows a metric. Its state is a mapping of numbers."""

    def step(self, value: float) -> None:
        """Takes the metric's value of one evaluation."""
        ...

    def lr(self, base: float) -> float:
        """Returns the current learning rate for the base rate."""
        ...

    def state_dict(self) -> dict[str, float]: ...

    def load_state_dict(self, state: Mapping[str, float]) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Scheduler(Component):
    """A learning-rate schedule.

    driven_by: "time" for a pure function of time, or "metric" for one that follows a metric.
    build: `(options, horizon)` → a `Schedule` with options of class `TimeScheduleOptions`, or a
        `MetricSchedule` with options of class `MetricScheduleOptions`.
    needs_length: `(options)` → True if the schedule depends on the length of the run. A finished
        trial can be continued with more epochs only if it does not.
    """

    kind = "schedulers"
    options: type[SchedulerOptions] = TimeScheduleOptions
    driven_by: Literal["time", "metric"] = "time"
    build: Callable[[Any, Horizon], Schedule | MetricSchedule]
    needs_length: Callable[[Any], bool]


@dataclass(frozen=True, kw_only=True)
class Dataset(Component):
    """A data set. `root` is the data folder (`HARNESS_DATA`).

    info: `(options, root) → DataInfo`. It is cheap and does not import torch. It may read a header
        or list a folder.
    fingerprint: `(options, root)` → the SHA-256 of the bytes that the data comes from. It imports
        neither torch nor scikit-learn. Raises DataMissing that names a missing file.
    load: `(options, root) → RawData`. It is deterministic and does not split.
    imports: slow modules that loading and splitting import. They are imported once and shared with
        all worker processes, so they must not start threads.
    """

    kind = "datasets"
    info: Callable[[Any, Path], DataInfo]
    fingerprint: Callable[[Any, Path], str]
    load: Callable[[Any, Path], RawData]
    imports: tuple[str, ...] = ()


LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]
"""(logits [B, outputs], targets [B] int64 or [B, T] float32) → the loss of each example, [B]."""

Prediction = Callable[["Tensor"], "Tensor"]
"""(what a model returns, […, outputs]) → what the metrics of its task take, […, O]."""


@dataclass(frozen=True, kw_only=True)
class Loss(Component):
    """A loss, one value for each example. The caller takes the mean.

    tasks: the tasks that it fits.
    outputs: `(info)` → how many logits the model must return.
    build: `(options) → LossFunction`.
    predict: makes what the metrics of the task take (see `Metric.compute`) of what the model
        returns, as the counts of their logarithms; None if they are the same.
    default_for: the tasks whose default it is.
    """

    kind = "losses"
    tasks: frozenset[Task]
    outputs: Callable[[DataInfo], int]
    build: Callable[[Any], LossFunction]
    predict: Prediction | None = None
    default_for: frozenset[Task] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Metric(Component):
    """A metric of a whole split, computed over all its examples at once.

    tasks: the tasks that it fits.
    direction: whether larger or smaller is better.
    unit: "fraction", "target²", …
    compute: `(outputs [N, O] float32, targets [N] int64 or [N, T] float32)` → a number; NaN if it
        is undefined, without examples, and for outputs that are not finite. Both are on any device.
        Outputs are a logit for each class or label, or the values of a regression. With one logit
        for two classes, class 1 is predicted where it is above 0; so is each label. The predicted
        one of ordered classes is their median.
    stacked: the same for K models at once, `(outputs [K, N, O], targets [K, N] or [K, N, T])` →
        [K] float64 on the CPU; None if K calls of `compute` are as fast.
    min_classes: the fewest classes for which it says anything (top-5: 6).
    default_for: the tasks that record it at each epoch by default.
    """

    kind = "metrics"
    tasks: frozenset[Task]
    direction: Literal["max", "min"]
    unit: str
    compute: Callable[[Tensor, Tensor], float]
    stacked: Callable[[Tensor, Tensor], Tensor] | None = None
    min_classes: int = 0
    default_for: frozenset[Task] = frozenset()


AugmentationFunction = Callable[["Tensor", "torch.Generator"], "Tensor"]
"""(preprocessed batch [B, C, H, W] float32, generator on the batch's device) → the same shape."""


@dataclass(frozen=True, kw_only=True)
class Augmentation(Component):
    """A random change of training images, drawn for each image of each batch.

    build: `(options) → AugmentationFunction`.
    """

    kind = "augmentations"
    build: Callable[[Any], AugmentationFunction]


class Batch(NamedTuple):
    """A batch of training examples on the trial's device, augmented.

    inputs: [B, *shape] float32. targets: [B] int64 or [B, T] float32.
    """

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True, kw_only=True)
class TrainingStep(Component):
    """What a batch's losses are in training; evaluation takes the trial's loss.

    run: `(options, info, model, batch, generator)` → the loss of each example [B], and what the
        metrics of training take, [B, outputs]. generator: on the batch's device; it is the trial's,
        and starts anew with each epoch.
    place: where it is defined, "my_step.py:12"; "" for the harness's own.
    """

    kind = "training_steps"
    run: Callable[[Any, DataInfo, nn.Module, Batch, torch.Generator], Any]
    place: str = ""


@dataclass(frozen=True, kw_only=True)
class TrainingLoop(Component):
    """A whole training of a user's own.

    run: `(options, trial)` → an iterator that yields a mapping of metrics after each epoch. The
        harness seeds torch, numpy and random before it is called.
    place: where it is defined, "my_gan.py:12"; "" for the harness's own training.
    """

    kind = "training_loops"
    run: Callable[[Any, TrialContext], Iterator[Any]]
    place: str = ""


KINDS: Mapping[str, type[Component]] = {
    cls.kind: cls
    for cls in (
        Model,
        Optimizer,
        Scheduler,
        Dataset,
        Loss,
        Metric,
        Augmentation,
        TrainingStep,
        TrainingLoop,
    )
}

SINGULAR: Mapping[str, str] = {kind: snake_case(cls.__name__) for kind, cls in KINDS.items()}
"""{"models": "model", "training_loops": "training_loop", …}."""

NONE: Final = "none"
"""The name of a component that stands for no component: of a trial whose training loop needs no
data set, model or optimizer; and of the training loop and step of all other trials."""


def _refuse_use(*_: Any) -> Any:
    raise TypeError("there is no component to use")


_ABSENT: Mapping[str, Any] = {
    "name": NONE,
    "description": "none: only a training loop does without",
    "reference": "",
}
ABSENT: Mapping[str, Component] = {
    component.kind: component
    for component in (
        Dataset(**_ABSENT, info=_refuse_use, fingerprint=lambda *_: "", load=_refuse_use),
        Model(**_ABSENT, build=_refuse_use),
        Optimizer(**_ABSENT, build=_refuse_use),
        Loss(**_ABSENT, tasks=frozenset(), outputs=_refuse_use, build=_refuse_use),
    )
}
"""What stands for no component, by kind. No list of components has them."""
