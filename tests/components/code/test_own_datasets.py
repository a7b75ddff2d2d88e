"""Data sets made of a user's classes and functions, and what is said of those that cannot be."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import harness
from harness.components import base
from harness.components.base import DataInfo, RawData, Task
from harness.components.code import examples
from harness.components.code.adapters import make_component
from harness.components.code.datasets import forget_data
from harness.components.code.source import MARK
from harness.core.errors import DataMissing, InputError
from harness.training.data import is_in_memory

TABLE = torch.arange(24.0).reshape(12, 2)
CLASSES = torch.arange(12) % 3
IMAGES = torch.arange(12 * 3 * 6 * 5).reshape(12, 3, 6, 5).to(torch.uint8)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    forget_data()


@dataclass
class Made:
    """A data set made of a user's object."""

    component: base.Dataset
    root: Path

    def options(self, **options: Any) -> Any:
        return self.component.options.model_validate(options)

    def info(self, **options: Any) -> DataInfo:
        return self.component.info(self.options(**options), self.root)

    def load(self, **options: Any) -> RawData:
        return self.component.load(self.options(**options), self.root)

    def fingerprint(self, **options: Any) -> str:
        return self.component.fingerprint(self.options(**options), self.root)


def made(target: Any, root: Path = Path(), **details: Any) -> Made:
    component = make_component("datasets", "own", target, "c0de", details)
    assert isinstance(component, base.Dataset)
    return Made(component, root)


def given(value: Any, root: Path = Path(), **details: Any) -> Made:
    """A data set of a function that returns this."""
    return made(lambda: value, root, **details)


class Items(Dataset[Any]):
    def __init__(self, items: Any) -> None:
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Any:
        return self.items[index]


def pairs(inputs: Any = TABLE, targets: Any = CLASSES) -> list[Any]:
    return list(zip(inputs, targets, strict=True))


FORMS: dict[str, Any] = {
    "tensors": (TABLE, CLASSES),
    "arrays": (TABLE.numpy(), CLASSES.numpy().astype(np.int32)),
    "lists": (TABLE.tolist(), CLASSES.tolist()),
    "tensor dataset": TensorDataset(TABLE, CLASSES),
    "items": Items(pairs()),
    "list of pairs": pairs(),
    "numbers": [(row.tolist(), int(c)) for row, c in pairs()],
    "subset": torch.utils.data.Subset(Items(pairs()), range(12)),
    "mapping": {"train": (TABLE, CLASSES)},
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_examples(form: str) -> None:
    own = given(FORMS[form])
    raw = own.load()
    assert raw.info == own.info()
    assert (raw.info.task, raw.info.shape, raw.info.classes) == (Task.MULTICLASS, (2,), 3)
    assert raw.info.examples == 9
    assert isinstance(raw.train.inputs, torch.Tensor)
    assert torch.equal(raw.train.inputs.float(), TABLE)
    assert raw.train.targets.tolist() == CLASSES.tolist()
    assert raw.train.targets.dtype == torch.int64
    assert raw.test is None
    assert raw.split == base.SplitRule()


@pytest.mark.parametrize(
    "value",
    [
        ((TABLE, CLASSES), (TABLE[:4], CLASSES[:4])),
        {"train": Items(pairs()), "test": pairs()[:4]},
        (Items(pairs()), TensorDataset(TABLE[:4], CLASSES[:4])),
    ],
)
def test_test_examples_of_its_own_are_taken(value: Any) -> None:
    raw = given(value).load()
    assert raw.split is None
    assert raw.test is not None
    assert (len(raw.train), len(raw.test), raw.info.examples) == (12, 4, 12)
    with pytest.raises(InputError, match="test_fraction: it has test examples of its own"):
        given(value).info(test_fraction=0.3)


def test_a_parameter_train_chooses_the_split_as_in_torchvision(tmp_path: Path) -> None:
    def digits(root: str, train: bool = True, n: int = 10) -> Any:
        assert root == str(tmp_path)
        return (TABLE[:n], CLASSES[:n]) if train else (TABLE[:2], CLASSES[:2])

    own = made(digits, tmp_path)
    raw = own.load(n=7)
    assert raw.test is not None
    assert (len(raw.train), len(raw.test)) == (7, 2)
    assert {"root", "train"}.isdisjoint(type(own.options()).model_fields)


def test_torchvisions_datasets_work_as_they_are() -> None:
    from torchvision.datasets import FakeData

    raw = made(FakeData).load(size=6, image_size=[3, 8, 8], num_classes=2)
    assert (raw.info.shape, raw.info.task) == ((3, 8, 8), Task.BINARY)
    assert isinstance(raw.train.inputs, torch.Tensor)
    assert raw.train.inputs.dtype == torch.uint8
    assert raw.prepare is not None
    assert raw.prepare(raw.train.inputs).max() <= 1


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (IMAGES, (3, 6, 5)),
        (IMAGES.permute(0, 2, 3, 1).numpy(), (3, 6, 5)),
        (IMAGES[:, 0].numpy(), (1, 6, 5)),
        (IMAGES[:, :1], (1, 6, 5)),
    ],
)
def test_images_of_bytes_have_their_channels_first(images: Any, shape: tuple[int, ...]) -> None:
    for value in ((images, CLASSES), pairs(images)):
        raw = given(value).load()
        assert raw.info.shape == shape
        assert isinstance(raw.train.inputs, torch.Tensor)
        assert torch.equal(raw.train.inputs[:, 0], IMAGES[:, 0])
        assert raw.prepare is not None


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.float16, torch.float32),
        (torch.bool, torch.float32),
        (torch.uint8, torch.float32),
        (torch.int32, torch.int64),
        (torch.int64, torch.int64),
    ],
)
def test_the_dtype_of_inputs(dtype: torch.dtype, kept: torch.dtype) -> None:
    for value in ((TABLE.to(dtype), CLASSES), pairs(TABLE.to(dtype))):
        raw = given(value).load()
        assert isinstance(raw.train.inputs, torch.Tensor)
        assert raw.train.inputs.dtype == kept
        assert raw.info.tokens == (24 if kept == torch.int64 else 0)


def test_sequences_and_longer_shapes_stay_as_they_are() -> None:
    for shape in ((7, 4), (2, 3, 4), (1, 2, 3, 4)):
        inputs = torch.randn(12, *shape)
        assert given((inputs, CLASSES)).info().shape == shape


LABELS = torch.tensor([[0, 1], [1, 1], [0, 0]] * 4)
TARGETS: list[Any] = [
    (CLASSES, "auto", Task.MULTICLASS, (12,), 3),
    (CLASSES % 2, "auto", Task.BINARY, (12,), 2),
    (CLASSES.bool(), "auto", Task.BINARY, (12,), 2),
    ((CLASSES % 2).float(), "auto", Task.BINARY, (12,), 2),
    (CLASSES[:, None], "auto", Task.MULTICLASS, (12,), 3),
    (CLASSES, "ordinal", Task.ORDINAL, (12,), 3),
    (CLASSES, "regression", Task.REGRESSION, (12, 1), 0),
    (CLASSES, "count", Task.COUNT, (12, 1), 0),
    (CLASSES / 2, "auto", Task.REGRESSION, (12, 1), 0),
    (TABLE, "auto", Task.REGRESSION, (12, 2), 0),
    (TABLE.view(12, 1, 2), "auto", Task.REGRESSION, (12, 2), 0),
    (LABELS, "auto", Task.MULTILABEL, (12, 2), 2),
    (LABELS.float(), "multilabel", Task.MULTILABEL, (12, 2), 2),
    (None, "auto", Task.AUTOENCODING, (12, 1), 0),
    (CLASSES, "autoencoding", Task.AUTOENCODING, (12,), 0),
]


@pytest.mark.parametrize(("targets", "task", "found", "shape", "classes"), TARGETS)
def test_what_is_learned_is_found_from_the_targets_or_declared(
    targets: Any, task: str, found: Task, shape: tuple[int, ...], classes: int
) -> None:
    value = TABLE if targets is None else (TABLE, targets)
    for own in (given(value, task=task), given(value)):
        raw = own.load(task=task)
        assert (raw.info.task, raw.info.classes) == (found, classes)
        assert raw.train.targets.shape == shape
        kind = torch.int64 if len(shape) == 1 else torch.float32
        assert raw.train.targets.dtype == kind
        if found is not Task.AUTOENCODING:
            assert raw.info.targets == (1 if len(shape) == 1 else shape[1])


def test_names_of_classes_are_declared_or_those_of_torchvisions_attribute() -> None:
    assert given((TABLE, CLASSES)).info().class_names == ("0", "1", "2")
    declared = given((TABLE, CLASSES), class_names=["a", "b", "c", "d"]).info()
    assert declared.class_names == ("a", "b", "c", "d")
    data = Items(pairs())
    data.classes = ["x", "y", "z"]  # type: ignore[attr-defined]
    assert given(data).info().class_names == ("x", "y", "z")


def nan_in(row: int) -> torch.Tensor:
    table = TABLE.clone()
    table[row, 0] = torch.nan
    return table


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Iterator[Any]:
        yield from pairs()


class Random(Items):
    def __getitem__(self, index: int) -> Any:
        return torch.randn(2), 0


class NoLength:
    def __getitem__(self, index: int) -> Any:
        return pairs()[index]


class Strict:
    """Whose error has a line of its own."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> Any:
        raise KeyError("no such column")


def uneven() -> list[Any]:
    return [*pairs()[:5], (torch.zeros(3), 0)]


WRONG: dict[str, tuple[Any, dict[str, Any], str]] = {
    "lengths": ((TABLE, CLASSES[:5]), {}, "it has 12 inputs and 5 targets"),
    "empty": ((TABLE[:0], CLASSES[:0]), {}, "it has no examples"),
    "empty list": ([], {}, "it has no examples"),
    "nan": ((nan_in(4), CLASSES), {}, "the input of example 4 has a value that is NaN"),
    "nan of an item": (pairs(nan_in(4)), {}, "the input of example 4 has a value that is NaN"),
    "shapes": (
        uneven(),
        {},
        r"(?s)input of example 5 has the shape \[3\], and example 0 \[2\].*pad",
    ),
    "text": (pairs(["a"] * 12), {}, "the input of example 0: text is no number"),
    "text targets": (pairs(TABLE, ["cat"] * 12), {}, "(?s)target of example 0: text.*class_names"),
    "three parts": ([(1.0, 2, 3)] * 3, {}, r"(?s)example 0 has 3 parts.*pair \(input, target\)"),
    "three arrays": ((TABLE, CLASSES, CLASSES), {}, "it has 3 arrays"),
    "mapping items": ([{"text": 1}] * 3, {}, "example 0 is a mapping with the keys 'text'"),
    "keys": ({"x": TABLE, "y": CLASSES}, {}, "a mapping with the keys 'x', 'y'"),
    "nothing": (None, {}, "it returned nothing"),
    "number": (3, {}, r"it returned a int.*no numbers|it returned a int"),
    "iterable": (Stream(), {}, r"(?s)it returned a Stream.*list\(…\)"),
    "generator": (iter(pairs()), {}, r"(?s)whose examples have no numbers.*list\(…\)"),
    "loader": (DataLoader(Items(pairs())), {}, "(?s)a DataLoader.*the harness makes the batches"),
    "no length": (NoLength(), {}, "(?s)its NoLength has no length.*__len__"),
    "random": (Random(pairs()), {}, "(?s)example 0 differs when it is read again.*augmentation"),
    "raises": (Strict(), {}, r"test_own_datasets.py:\d+: dataset own: KeyError: 'no such column'"),
    "negative class": ((TABLE, CLASSES - 1), {}, "target of example 0, -1, is no class"),
    "from one": (
        (TABLE, CLASSES + 1),
        {},
        "(?s)no example is of class 0: classes begin at 1.*subtr",
    ),
    "half a class": ((TABLE, CLASSES / 2), {"task": "binary"}, "target of example 1, 0.5, is no c"),
    "too high": (
        (TABLE, CLASSES),
        {"class_names": ["a", "b"]},
        "example 2, 2, is no class: class_",
    ),
    "one class": ((TABLE, CLASSES * 0), {}, "all examples have one class"),
    "many classes": ((TABLE, CLASSES * 5000), {}, "(?s)classes up to number 10000.*regression"),
    "no label": ((TABLE, TABLE), {"task": "multilabel"}, "example 1, 2, is no label"),
    "label names": ((TABLE, LABELS), {"class_names": ["a"]}, "1 names for 2 labels"),
    "no count": ((TABLE, CLASSES / 2), {"task": "count"}, "target of example 1, 0.5, is no count"),
    "whole numbers": ((TABLE, TABLE.long()), {}, "2 whole numbers, which are neither 0 nor 1"),
    "several classes": ((TABLE, TABLE), {"task": "ordinal"}, "a target has 2 classes, not one"),
    "nan target": ((TABLE, nan_in(3)[:, 0]), {}, "the target of example 3 is NaN"),
    "no targets": (TABLE, {"task": "binary"}, "task: binary needs targets"),
    "token below 0": ((TABLE.long() - 1, CLASSES), {}, "example 0 has a whole number below 0"),
    "names": ((TABLE, CLASSES), {"class_names": "abc"}, "class_names is 'abc', and not a list"),
    "task": ((TABLE, CLASSES), {"task": "labels"}, "(?s)task: 'labels' is none.*multilabel"),
    "detail": (
        (TABLE, CLASSES),
        {"classes": 3},
        "(?s)dataset own says 'classes'.*class_names",
    ),
    "test shape": (((TABLE, CLASSES), (IMAGES, CLASSES)), {}, "another shape than its training"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_told_with_its_example(name: str) -> None:
    value, details, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        given(value, **details).info()


@pytest.mark.parametrize("options", [{"standardise": True}, {"stratify": True}])
def test_options_that_do_not_fit_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        given((torch.randn(12, 3, 2), torch.randn(12))).info(**options)


def test_a_parameter_of_a_taken_name_is_refused() -> None:
    def own(task: str = "x") -> Any: ...

    with pytest.raises(InputError, match="has an option 'task': give the parameter another name"):
        made(own)


def test_stratified_and_standardised_splits() -> None:
    own = given((TABLE.double(), CLASSES))
    raw = own.load(stratify=True, standardise=True, test_fraction=0.25)
    assert raw.standardise
    assert raw.split == base.SplitRule(0.25, stratify=True)
    assert raw.info.examples == 9


# Identity


def counted(value: Any) -> tuple[Callable[..., Any], list[int]]:
    calls: list[int] = []

    def read(n: int = 12) -> Any:
        calls.append(n)
        return (value[0][:n], value[1][:n])

    return read, calls


def test_examples_are_read_once_for_all_questions() -> None:
    read, calls = counted((TABLE, CLASSES))
    own = made(read)
    own.info(), own.fingerprint(), own.load(), made(read).info()
    assert calls == [12]
    own.info(n=6)
    assert calls == [12, 6]
    forget_data()
    own.info()
    assert calls == [12, 6, 12]


def test_the_checksum_is_of_all_examples() -> None:
    checksum = given((TABLE, CLASSES)).fingerprint()
    assert len(bytes.fromhex(checksum)) == 32
    assert given((TABLE.clone(), CLASSES)).fingerprint() == checksum
    table, classes = TABLE.clone(), CLASSES.clone()
    table[11, 1] += 1e-6 * 11
    classes[11] = 0
    others = [(table, CLASSES), (TABLE, classes), ((TABLE, CLASSES), (TABLE, CLASSES)), TABLE]
    assert len({given(other).fingerprint() for other in others} | {checksum}) == 5


def test_random_numbers_are_the_same_in_every_process() -> None:
    def noise() -> Any:
        return torch.randn(20, 2) + torch.from_numpy(np.random.randn(20, 2)), torch.arange(20) % 2

    own = made(noise)
    before = torch.get_rng_state()
    first = own.fingerprint()
    assert torch.equal(torch.get_rng_state(), before)
    forget_data()
    torch.manual_seed(7)
    assert own.fingerprint() == first


def test_declared_files_stand_for_the_examples(tmp_path: Path) -> None:
    file = tmp_path / "table.bin"
    file.write_bytes(b"abc")
    read, calls = counted((TABLE, CLASSES))
    own = made(read, tmp_path, files="table.bin")
    first = own.fingerprint()
    assert calls == []
    own.info()
    file.write_bytes(b"abcd")
    assert own.fingerprint() != first
    own.info()
    assert calls == [12, 12], "other files, and so perhaps other examples"
    with pytest.raises(DataMissing, match="absent"):
        made(read, tmp_path, files=["absent.bin"]).fingerprint()


def test_large_data_is_read_one_example_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "IN_MEMORY_BYTES", 10)
    whole = given((TABLE, CLASSES)).fingerprint()
    own = given(Items(pairs()))
    raw = own.load()
    assert not is_in_memory(raw)
    assert torch.equal(raw.train.inputs[3], TABLE[3])
    assert raw.train.targets.tolist() == CLASSES.tolist()
    assert own.fingerprint() != whole


def test_the_decorator_notes_what_is_declared() -> None:
    @harness.dataset(task="count", class_names=["a"], files=["x.csv"])
    def own() -> None: ...

    mark = getattr(own, MARK)
    assert (mark.kind, mark.name) == ("datasets", "own")
    assert dict(mark.details) == {"task": "count", "class_names": ["a"], "files": ["x.csv"]}
