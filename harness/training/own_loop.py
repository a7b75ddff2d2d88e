"""Trains a trial with a training loop of a user's own, which yields metrics after each epoch."""

from __future__ import annotations

import re
import shutil
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from math import inf, isfinite
from numbers import Real
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType, GeneratorType
from typing import Any, Final, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from harness.components.base import DataInfo, LossFunction
from harness.components.trial_context import TrialContext
from harness.core.errors import InputError, Problem
from harness.core.records import Ended, Measured, Outcome, Record, Started
from harness.core.seeding import generator, seed_global_streams, stream_seed
from harness.core.text import kind_of, plural
from harness.experiment.trial import Fingerprint, Trial, is_absent
from harness.training import device as devices
from harness.training.batch_sources import Batch, BatchSource
from harness.training.checkpoint import Checkpoint, CheckpointPolicy, UnusableCheckpoint
from harness.training.data import Splits, load_splits
from harness.training.loop import Diverged
from harness.training.optimizer import TrialOptimizer, undecayed_names
from harness.training.resources import ResourceMeter
from harness.training.setup import initial_model

FORMAT: Final = "training_loop 1"
METRIC: Final = re.compile(r"(train|val|test)/[A-Za-z0-9_]+")
EXAMPLE: Final = 'yield {"val/accuracy": 0.9}, say'


class OwnLoop(TrialContext):
    """A trial that a training loop of a user's own trains.

    data_root, planned: as `TrainingSetup` takes them. own_folder: for the loop's
    checkpoints, by default a temporary one. done: after how many epochs training goes on.
    """

    def __init__(
        self,
        trial: Trial,
        data_root: Path,
        device: torch.device | None,
        planned: Fingerprint,
        own_folder: Path | None = None,
    ) -> None:
        self.trial, self.data_root, self.planned = trial, data_root, planned
        self.device = device or devices.resolve(trial.device)
        devices.configure(self.device)
        self.own_folder = own_folder
        self.done, self.seconds_before, self.is_resumable = 0, 0.0, False
        self.last_values: dict[str, float] = {}
        self.seed, self.epochs = trial.seed, trial.epochs
        self.batch_size = trial.batch_size
        self.lr = None if is_absent("lr", trial.lr) else trial.lr
        self.fields: Mapping[str, Any] = trial.resolved()
        self._splits: Splits | None = None

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on from a checkpoint. Raises UnusableCheckpoint if it is of something else."""
        if state.get("format") != FORMAT:
            raise UnusableCheckpoint("it was not written by a training loop")
        self.done, self.seconds_before = state["epoch"], state["seconds"]
        self.last_values = dict(state["values"])

    def checkpoint(self, epoch: int, seconds: float, values: Mapping[str, float]) -> Checkpoint:
        """Returns what the harness stores beside the loop's own files."""
        state = {"format": FORMAT, "epoch": epoch, "seconds": seconds, "values": dict(values)}
        return Checkpoint(epoch, 0, state)

    def seed_generators(self, epoch: int) -> None:
        """Seeds torch, numpy and random: for epoch 0, what precedes the first."""
        seed_global_streams(stream_seed(self.seed, "loop", epoch))

    @property
    def folder(self) -> Path:
        if self.own_folder is None:
            self._temporary = TemporaryDirectory()
            self.own_folder = Path(self._temporary.name)
        self.own_folder.mkdir(parents=True, exist_ok=True)
        return self.own_folder

    def resume(self) -> int:
        self.is_resumable = True
        self.seed_generators(self.done + 1)
        return self.done

    @property
    def data(self) -> DataInfo:
        return self._loaded().info

    def examples(self, split: Literal["train", "val", "test"]) -> tuple[Tensor, Tensor]:
        source = self._split(split)
        batches = list(source.batches(self.trial.eval_batch_size))
        inputs, targets = (torch.cat(tensors) for tensors in zip(*batches, strict=True))
        return inputs, targets

    def batches(self, epoch: int) -> Iterator[Batch]:
        train = self._loaded().train
        order = torch.randperm(len(train), generator=generator(self.seed, "order", epoch))
        return train.batches(self.batch_size, order)

    def model(self) -> nn.Module:
        self._require("model")
        return initial_model(self.trial, self._loaded(), self.planned.weights).to(self.device)

    def optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        self._require("optimizer")
        self._require("lr")
        choice, named = self.trial.optimizer, model.named_parameters()
        without_decay = undecayed_names(choice, model)
        return TrialOptimizer(choice, named, self.trial.lr, without_decay).torch

    def loss(self) -> LossFunction:
        self._require("loss")
        return self.trial.loss.component.build(self.trial.loss.options)

    def _loaded(self) -> Splits:
        self._require("dataset")
        if self._splits is None:
            root, planned = self.data_root, self.planned.data
            self._splits = load_splits(self.trial, root, self.device, planned)
        return self._splits

    def _split(self, name: str) -> BatchSource:
        splits = {"train": self._loaded().train, **self._loaded().evaluated()}
        if name not in splits:
            raise InputError(Problem(f"there is no split {name!r}", hint=f"has: {list(splits)}"))
        return splits[name]

    def _require(self, field: str) -> None:
        if is_absent(field, getattr(self.trial, field)):
            needed = "dataset" if field == "loss" else field
            rule = f"training_loop {self.trial.training_loop.name} asks for the trial's {field}"
            raise InputError(Problem(f"{rule}: name a {needed} in the experiment file"))


def run_own_loop(
    context: OwnLoop, policy: CheckpointPolicy | None = None, metric: str = ""
) -> Iterator[Record | Checkpoint]:
    """Trains a trial with its own training loop and yields its records, as `loop.train` does.

    They are Started, Measured for each epoch that the loop yields, and Ended. The loop is ended
    after the trial's epochs. It may end earlier: what it yielded last is its result. A loop that
    asks from where to go on gets a checkpoint after each epoch.

    metric: what trials are selected on; the loop must yield it. Raises InputError, with file and
    line, for a loop that yields no metrics.
    """
    policy = policy or CheckpointPolicy(every=inf)
    trial = context.trial
    if not context.done and context.own_folder is not None:
        shutil.rmtree(context.own_folder, ignore_errors=True)
    yield Started(devices.metadata(context.device))
    context.seed_generators(0)
    meter = ResourceMeter(context.device, context.seconds_before)
    epoch, values, diverged = context.done, context.last_values, ""
    with _Loop(context, metric) as loop, policy.training():
        while epoch < trial.epochs:
            meter.start()
            try:
                measured = loop.next_metrics()
            except Diverged as reason:
                diverged = str(reason)
                break
            if measured is None:
                break
            policy.evaluation_seconds = meter.lap()
            meter.train_seconds += policy.evaluation_seconds
            epoch, values = epoch + 1, measured
            memory = meter.memory() if epoch == trial.epochs else {}
            yield Measured(epoch, {**values, **meter.seconds(), **memory}, 0)
            if context.is_resumable:
                yield context.checkpoint(epoch, meter.train_seconds, values)
            if policy.stop_requested:
                return
            context.seed_generators(epoch + 1)
    if diverged:
        yield Ended(Outcome.DIVERGED, {}, reason=diverged)
        return
    ended_early = f"ended after {epoch} of {plural(trial.epochs, 'epoch')}"
    yield Ended(Outcome.DONE, values, reason="" if epoch == trial.epochs else ended_early)


class _Loop:
    """A running training loop, whose metrics are checked. metric: one that it must yield."""

    def __init__(self, context: OwnLoop, metric: str) -> None:
        choice = context.trial.training_loop
        self._context, self._metric = context, metric
        self._name, self._place = choice.name, choice.component.place
        self._names: frozenset[str] = frozenset()
        self._iterator: Iterator[Any] = iter(())
        with self._no_exit():
            returned = choice.component.run(choice.options, context)
        if isinstance(returned, (Mapping, str)) or not hasattr(returned, "__iter__"):
            hint = "write yield in place of return"
            raise self._wrong(f"returned {_kind_of(returned)}, and not a generator", hint)
        self._iterator = iter(returned)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Ends the loop where it stands: its `finally` blocks run. What they raise counts, unless
        another error is on its way."""
        with nullcontext() if kind is None else suppress(Exception):
            self._close()

    def _close(self) -> None:
        if isinstance(self._iterator, GeneratorType):
            try:
                with self._no_exit():
                    self._iterator.close()
            except RuntimeError as error:
                if "GeneratorExit" not in str(error):
                    raise
                raise self._wrong("yielded once more after it was ended") from error

    def next_metrics(self) -> dict[str, float] | None:
        """Returns the metrics of the next epoch; None if the loop has ended.

        Raises Diverged if one is not finite, InputError if the loop yields no metrics.
        """
        with self._no_exit():
            yielded = next(self._iterator, _END)
        if self._context.done and not self._context.is_resumable:
            raise self._wrong("went on without asking from where", "call trial.resume() each time")
        if yielded is not _END:
            return self._checked(yielded)
        if not self._names and not self._context.done:
            raise self._wrong("ended and yielded nothing", EXAMPLE)
        return None

    def _checked(self, yielded: Any) -> dict[str, float]:
        if not isinstance(yielded, Mapping):
            raise self._wrong(f"yielded {_kind_of(yielded)}, and not a mapping", EXAMPLE)
        if not yielded:
            raise self._wrong("yielded no metric", EXAMPLE)
        values = {}
        for name, value in yielded.items():
            if not isinstance(name, str) or not METRIC.fullmatch(name):
                hint = f"write {_suggested(name)!r}: train, val or test, a slash, and a name"
                raise self._wrong(f"yielded a metric {name!r}", hint)
            values[name] = self._number(name, value)
        self._check_names(frozenset(values))
        return values

    def _number(self, name: str, value: Any) -> float:
        number = _as_float(value)
        if number is None:
            raise self._wrong(f"yielded {name} = {_kind_of(value)}, and not a number")
        if not isfinite(number):
            raise Diverged(f"{self._where()}: training_loop {self._name} yielded {name} = {number}")
        return number

    def _check_names(self, names: frozenset[str]) -> None:
        if self._metric and self._metric not in names:
            hint = f"it yields {', '.join(sorted(names))}; set metric: in the experiment file"
            raise self._wrong(f"did not yield {self._metric}, which ranks the trials", hint)
        if self._names and names != self._names:
            missing = [f"{name} is missing" for name in sorted(self._names - names)]
            added = [f"{name} is new" for name in sorted(names - self._names)]
            hint = "; ".join([*missing, *added])
            raise self._wrong("yielded other metrics than before", hint)
        self._names = names

    def _where(self) -> str:
        """Returns the line where the loop stands, "my_gan.py:31"; if it has ended, its first."""
        generator: Any = self._iterator
        while isinstance(getattr(generator, "gi_yieldfrom", None), GeneratorType):
            generator = generator.gi_yieldfrom
        frame: FrameType | None = getattr(generator, "gi_frame", None)
        if frame is None:
            return self._place
        return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"

    def _wrong(self, what: str, hint: str = "") -> InputError:
        return InputError(Problem(f"training_loop {self._name} {what}", self._where(), hint))

    @contextmanager
    def _no_exit(self) -> Iterator[None]:
        """A trial that ends the process would end those of others."""
        try:
            yield
        except SystemExit as error:
            *_, last = traceback.extract_tb(error.__traceback__)
            where = f"{Path(last.filename).name}:{last.lineno}"
            rule = f"training_loop {self._name} called sys.exit"
            raise InputError(Problem(rule, where, "let it return")) from error


_END: Final = object()


def _as_float(value: Any) -> float | None:
    """Returns a number, also one in a tensor or an array; None for anything else."""
    is_single = isinstance(value, Tensor) and value.numel() == 1
    if is_single or (isinstance(value, np.ndarray) and value.size == 1):
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (Real, np.number)):
        return None
    try:
        return float(value)
    except OverflowError:
        return inf


def _suggested(name: Any) -> str:
    """Returns a name of a metric that is like one that is not valid."""
    split, slash, rest = str(name).rpartition("/")
    words = re.sub(r"\W+", "_", rest).strip("_") or "reward"
    return f"{split if slash and METRIC.fullmatch(f'{split}/x') else 'val'}/{words}"


def _kind_of(value: object) -> str:
    return "text" if isinstance(value, str) else kind_of(value)
