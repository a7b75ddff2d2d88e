"""Makes data sets of a user's classes and functions: a torch `Dataset`, or a function that returns
one, or arrays.

All examples are read once in a process. What is known of them (shape, task, classes) is found from
them and from what the user declares.
"""

from __future__ import annotations

import hashlib
import inspect
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from pydantic import Field

from harness.components.base import (
    DataInfo,
    Dataset,
    Examples,
    ImageTransform,
    RawData,
    SplitRule,
    Task,
)
from harness.components.code.examples import OwnExamples, read_examples, split_parts
from harness.components.code.signatures import (
    option_values,
    parameters,
    read_signature,
    refuse_taken,
)
from harness.components.code.source import folder_of, told_with_line
from harness.components.code.targets import OwnTargets, describe_targets
from harness.components.shared.data_files import missing_file, sha256
from harness.components.shared.splitting import SPLITTING, StratifiedSplitOptions, training_size
from harness.core.errors import InputError, Problem
from harness.core.seeding import host_streams_kept, seed_global_streams

T = TypeVar("T")

READ_SETS: Final = 2
"""Data sets that stay in memory, as they were read."""


class OwnDatasetOptions(StratifiedSplitOptions):
    """Options that every data set of a user's own has, beside its parameters."""

    standardise: bool = Field(
        False, description="standardise each feature with the training split's mean and deviation"
    )
    task: Literal[
        "auto",
        "multiclass",
        "binary",
        "ordinal",
        "multilabel",
        "regression",
        "count",
        "autoencoding",
    ] = Field("auto", description="what is learned; auto finds it from the targets")


@dataclass(frozen=True, slots=True)
class ReadData:
    """A data set as it was read. examples, targets: by split."""

    info: DataInfo
    examples: Mapping[str, OwnExamples]
    targets: Mapping[str, OwnTargets]
    checksum: str


_read: OrderedDict[Any, ReadData] = OrderedDict()


def forget_data() -> None:
    """Lets data sets be read again, as what they read may have changed."""
    _read.clear()


def own_dataset(name: str, target: Any, common: Mapping[str, Any], details: Any) -> Dataset:
    """Returns the data set that a class or a function makes.

    common: fields of the component. details: what the decorator says: `task`, `class_names`, and
    `files`, the paths of the files that it reads.
    """
    source = _Source(name, target, details)

    def info(options: OwnDatasetOptions, root: Path) -> DataInfo:
        return source.read(options, root).info

    def fingerprint(options: OwnDatasetOptions, root: Path) -> str:
        files = source.files(root)
        if files:
            return hashlib.sha256(" ".join(map(sha256, files)).encode()).hexdigest()
        return source.read(options, root).checksum

    def load(options: OwnDatasetOptions, root: Path) -> RawData:
        return _raw_data(source.read(options, root), options)

    return Dataset(info=info, fingerprint=fingerprint, load=load, imports=SPLITTING, **common)


def dataset_signature(name: str, target: Any) -> Any:
    """Returns the signature of a data set. Raises InputError for a parameter of a taken name."""
    given = parameters(target, name)
    refuse_taken(given, OwnDatasetOptions, f"{name}: every data set", target)
    return read_signature(target, name, filled=_filled(given), base=OwnDatasetOptions)


def _filled(given: Mapping[str, inspect.Parameter]) -> tuple[str, ...]:
    """Returns the parameters that the harness fills: torchvision's `train`, which chooses the
    split, and its `root`, the folder of data."""
    train, root = given.get("train"), given.get("root")
    names = ["train"] if train is not None and _is_bool(train) else []
    return (*names, *(["root"] if root is not None and root.default is root.empty else []))


def _is_bool(parameter: inspect.Parameter) -> bool:
    return parameter.annotation in (bool, "bool") or isinstance(parameter.default, bool)


@dataclass(frozen=True, slots=True)
class _Source:
    """What makes the examples. details: what the decorator says."""

    name: str
    target: Any
    details: Mapping[str, Any]

    def files(self, root: Path) -> list[Path]:
        """Returns the declared files: beside the code, or below the data folder."""
        declared = self.details.get("files") or ()
        named = [declared] if isinstance(declared, (str, Path)) else declared
        folder = folder_of(self.target) or Path.cwd()
        found = []
        for file in map(Path, named):
            places = [base / file.expanduser() for base in (folder, root)]
            existing = [place for place in places if place.is_file()]
            if not existing:
                raise missing_file(self.name, str(file), root)
            found.append(existing[0])
        return found

    def read(self, options: OwnDatasetOptions, root: Path) -> ReadData:
        """Reads all examples, or returns what this process has read already."""
        files = tuple(map(sha256, self.files(root)))
        key = (self.target, self.name, options.model_dump_json(), root, files)
        if key not in _read:
            with told_with_line(f"dataset {self.name}", self.target):
                _read[key] = self._read(options, root)
            if len(_read) > READ_SETS:
                _read.popitem(last=False)
        _read.move_to_end(key)
        return _read[key]

    def _read(self, options: OwnDatasetOptions, root: Path) -> ReadData:
        with _seeded():
            parts = self._parts(options, root)
            examples = {split: read_examples(given) for split, given in parts.items()}
        names = self.details.get("class_names") or getattr(parts["train"], "classes", ())
        task = options.task if options.task != "auto" else self.details.get("task", "auto")
        if task not in ("auto", *Task):
            raise InputError(Problem(f"task: {task!r} is none", hint=f"allowed: {', '.join(Task)}"))
        targets = _describe(examples, str(task), _class_names(names, self.details))
        info = _info(examples, targets["train"], options)
        checksums = " ".join(examples[split].checksum for split in examples)
        return ReadData(info, examples, targets, hashlib.sha256(checksums.encode()).hexdigest())

    def _parts(self, options: OwnDatasetOptions, root: Path) -> Mapping[str, Any]:
        """Calls the user's class or function: twice, if it has a parameter `train`."""
        filled = _filled(parameters(self.target, self.name))
        given = option_values(options, without=OwnDatasetOptions)
        given |= {"root": str(root)} if "root" in filled else {}
        if "train" not in filled:
            return split_parts(self.target(**given))
        return {
            "train": self.target(train=True, **given),
            "test": self.target(train=False, **given),
        }


@contextmanager
def _seeded() -> Iterator[None]:
    """While entered, random numbers are the same in every process."""
    import torch

    with host_streams_kept(), torch.random.fork_rng(devices=[]):
        seed_global_streams(0)
        yield


def _class_names(names: Any, details: Mapping[str, Any]) -> tuple[str, ...]:
    """Returns the names of classes that the user declares, or that a data set of torchvision's has
    as `classes`."""
    if isinstance(names, str) or not isinstance(names, Sequence):
        if details.get("class_names"):
            raise InputError(f"class_names is {names!r}, and not a list of names")
        return ()
    return tuple(map(str, names))


def _describe(
    examples: Mapping[str, OwnExamples], task: str, names: tuple[str, ...]
) -> dict[str, OwnTargets]:
    """Returns the targets by split, as those of one task."""
    import torch

    sizes = [len(of_split.inputs) for of_split in examples.values()]
    given = [of_split.targets for of_split in examples.values()]
    shapes = {None if targets is None else tuple(targets.shape[1:]) for targets in given}
    kinds = {tuple(of_split.first.shape): None for of_split in examples.values()}
    if len(shapes) > 1 or len(kinds) > 1:
        raise InputError("its test examples have another shape than its training examples")
    known = [targets for targets in given if targets is not None]
    found = describe_targets(torch.cat(known) if known else None, sum(sizes), task, names)
    cut = found.values.split(sizes)
    return {
        split: replace(found, values=values) for split, values in zip(examples, cut, strict=True)
    }


def _info(
    examples: Mapping[str, OwnExamples], targets: OwnTargets, options: OwnDatasetOptions
) -> DataInfo:
    first = examples["train"].first
    size = len(examples["train"].inputs)
    if options.standardise and (first.ndim > 1 or not first.is_floating_point()):
        raise InputError("standardise: only the features of a table, a vector each, can be")
    if "test" in examples:
        _refuse_split_options(options)
    else:
        size = training_size(options.split_rule(), _counts(targets, options))
    described = DataInfo(
        targets.task,
        tuple(first.shape),
        targets.class_names,
        targets=1 if targets.values.ndim == 1 else targets.values.shape[1],
        examples=size,
        tokens=max(of_split.tokens for of_split in examples.values()),
    )
    return described.for_task(targets.task)


def _refuse_split_options(options: OwnDatasetOptions) -> None:
    fields = StratifiedSplitOptions.model_fields
    given = [name for name in fields if getattr(options, name) != fields[name].default]
    if given:
        raise InputError(f"{given[0]}: it has test examples of its own, so that none are split off")


def _counts(targets: OwnTargets, options: OwnDatasetOptions) -> dict[str, int]:
    if not options.stratify:
        return {"": len(targets.values)}
    if targets.values.ndim > 1:
        raise InputError(f"stratify: a data set of task {targets.task} has no classes")
    counts = targets.values.bincount().tolist()
    return dict(zip(map(str, range(len(counts))), counts, strict=True))


def _raw_data(read: ReadData, options: OwnDatasetOptions) -> RawData:
    import torch

    parts = {
        split: Examples(read.examples[split].inputs, read.targets[split].values)
        for split in read.examples
    }
    is_image = read.examples["train"].first.dtype == torch.uint8
    rule: SplitRule | None = None if "test" in parts else options.split_rule()
    return RawData(
        read.info,
        parts["train"],
        parts.get("test"),
        split=rule,
        standardise=options.standardise,
        prepare=ImageTransform() if is_image else None,
    )
