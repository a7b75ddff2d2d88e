"""Files of public data sets: fetched, read as torchvision reads them, refused when damaged."""

from __future__ import annotations

import gzip
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from harness.components.base import Dataset
from harness.components.datasets import cifar10, mnist
from harness.components.datasets.mnist import FILES, MNISTFamily, read_idx
from harness.components.shared.data_files import download_missing, offline, sha256
from harness.components.shared.images import ImageOptions, convert_to_grey
from harness.core.errors import DataMissing, InputError
from tests.components.synthetic_data import (
    FAMILY,
    Evil,
    idx_bytes,
    tensor_inputs,
    write_all,
    write_cifar10,
    write_family,
)
from tests.support import registered


@pytest.fixture(scope="module")
def synthetic_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with small files in the true formats."""
    return write_all(tmp_path_factory.mktemp("data"))


# Downloads


def test_a_download_puts_every_file_in_its_place(tmp_path) -> None:
    def download(folder: Path) -> None:
        (folder / "a").mkdir()
        (folder / "a" / "b").write_text("x")
        (folder / "other").write_text("y")

    download_missing("toy", ["a/b"], tmp_path, download)
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == ["a", "a/b"]


def test_a_failed_download_says_why_and_leaves_nothing(tmp_path) -> None:
    def download(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("no route\nto host")

    with pytest.raises(DataMissing, match=r"whole.* could not be downloaded \(no route to host\)"):
        download_missing("toy", ["whole"], tmp_path, download)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_downloaded_offline(tmp_path) -> None:
    def download(folder: Path) -> None:
        raise AssertionError("asked for")

    with (
        offline("a dry run downloads nothing"),
        pytest.raises(DataMissing, match=r"whole does not exist, and a dry run downloads nothing"),
    ):
        download_missing("toy", ["whole"], tmp_path / "data", download)
    assert list(tmp_path.iterdir()) == []


def test_warnings_of_a_download_are_not_shown_beside_its_error(tmp_path) -> None:
    def download(folder: Path) -> None:
        warnings.warn("Retry downloading", UserWarning, stacklevel=1)
        raise OSError("no route")

    with warnings.catch_warnings(record=True) as shown, pytest.raises(DataMissing):
        download_missing("toy", ["whole"], tmp_path, download)
    assert shown == []


def test_absent_data_is_downloaded_when_it_is_first_asked_for(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(MNISTFamily, "_download", lambda self, at: write_family(at, self.folder))
    family = mnist.MNIST
    assert family.fingerprint(mnist.MNISTOptions(), tmp_path)
    monkeypatch.setattr(MNISTFamily, "_download", None)
    assert len(family.load(mnist.MNISTOptions(), tmp_path).train) == 40


def test_a_checksum_follows_the_content(tmp_path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    first = sha256(file)
    file.write_bytes(b"two!")
    assert sha256(file) != first


# The MNIST family


@pytest.mark.parametrize("folder", FAMILY)
def test_idx_files_read_as_torchvision_reads_them(folder, synthetic_root) -> None:
    import torchvision

    dataset = registered(Dataset)[FAMILY[folder]]
    raw = dataset.load(dataset.options(), synthetic_root)
    for examples, train in ((raw.train, True), (raw.test, False)):
        reference = getattr(torchvision.datasets, folder)(synthetic_root, train=train)
        assert examples is not None
        assert torch.equal(tensor_inputs(examples).squeeze(1), reference.data)
        assert torch.equal(examples.targets, reference.targets)
    if folder != "MNIST":
        assert list(raw.info.class_names) == reference.classes


def test_packed_files_are_the_same_data(synthetic_root, tmp_path) -> None:
    (tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for name in FILES:
        content = (synthetic_root / "MNIST" / "raw" / name).read_bytes()
        with gzip.open(tmp_path / "MNIST" / "raw" / f"{name}.gz", "wb") as packed:
            packed.write(content)
    options = mnist.MNISTOptions(download=False)
    family = mnist.MNIST
    assert family.fingerprint(options, tmp_path) == family.fingerprint(options, synthetic_root)
    assert torch.equal(
        tensor_inputs(family.load(options, tmp_path).train),
        tensor_inputs(family.load(options, synthetic_root).train),
    )


def test_limits_keep_the_first_examples(synthetic_root) -> None:
    whole = mnist.MNIST.load(mnist.MNISTOptions(), synthetic_root)
    part = mnist.MNIST.load(mnist.MNISTOptions(limit=7, test_limit=1000), synthetic_root)
    assert torch.equal(tensor_inputs(part.train), tensor_inputs(whole.train)[:7])
    assert torch.equal(part.train.targets, whole.train.targets[:7])
    assert part.test is not None
    assert len(part.test) == 20


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: b[:-1], "truncated"),
        (lambda b: b[:9], "not an idx file"),
        (lambda b: b[:8], "not an idx file"),
        (lambda b: b"\0\0\x0d" + b[3:], "not an idx file"),
        (lambda b: b"", "not an idx file"),
        (lambda b: b[:8] + (27).to_bytes(4, "big") + b[12:], r"shape \[27, 28\]"),
    ],
)
def test_damaged_idx_files_are_refused(change, message, synthetic_root, tmp_path) -> None:
    file = tmp_path / "images"
    file.write_bytes(change((synthetic_root / "MNIST" / "raw" / FILES[0]).read_bytes()))
    with pytest.raises(InputError, match=message):
        read_idx(file, (28, 28))


def _cut(part: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(part * len(content))]


def _claiming(n: int) -> Callable[[bytes], bytes]:
    return lambda content: content[:4] + n.to_bytes(4, "big") + content[8:]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "cut early": _cut(0.3),
    "cut late": _cut(0.99),
    "empty": lambda _content: b"",
    "longer": lambda content: content + b"more",
    "claims more": _claiming(2**32 - 1),
    "claims less": _claiming(3),
    "a page": lambda _content: b"<html>404 Not Found</html>" * 2000,
    "of another kind": lambda content: b"\0\0\x0d" + content[3:],
}
PACKED: dict[str, Callable[[bytes], bytes]] = {
    "cut at its end": lambda content: gzip.compress(content)[:-9],
    "cut in its header": lambda content: gzip.compress(content)[:9],
    "not packed": lambda content: content,
    "other bytes": lambda content: gzip.compress(content)[:-20] + bytes(20),
} | {name: lambda content, d=damage: gzip.compress(d(content)) for name, damage in DAMAGE.items()}
CASES = [(change, "") for change in DAMAGE.values()] + [
    (change, ".gz") for change in PACKED.values()
]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    ("change", "suffix"), CASES, ids=[*DAMAGE, *(f"packed, {name}" for name in PACKED)]
)
def test_a_damaged_file_is_refused_before_anything_runs(name, change, suffix, tmp_path) -> None:
    """Whatever the limit: the first examples of a damaged file may be whole."""
    write_family(tmp_path, "MNIST")
    plain = tmp_path / "MNIST" / "raw" / name
    content = plain.read_bytes()
    plain.unlink()
    file = plain.with_name(name + suffix)
    file.write_bytes(change(content))
    options = mnist.MNISTOptions(limit=2, test_limit=2, download=False)
    for read in (mnist.MNIST.fingerprint, mnist.MNIST.load):
        with pytest.raises(InputError, match=re.escape(str(file))):
            read(options, tmp_path)


def test_all_damaged_files_are_named_at_once(tmp_path) -> None:
    write_family(tmp_path, "MNIST")
    for name in FILES:
        file = tmp_path / "MNIST" / "raw" / name
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(InputError) as caught:
        mnist.MNIST.fingerprint(mnist.MNISTOptions(), tmp_path)
    assert len(caught.value.problems) == 4


@pytest.mark.parametrize("limit", [None, 2])
@pytest.mark.parametrize(("mine", "other"), [(FILES[1], FILES[3]), (FILES[3], FILES[1])])
def test_labels_of_another_split_are_refused(mine, other, limit, tmp_path) -> None:
    write_family(tmp_path, "MNIST")
    raw = tmp_path / "MNIST" / "raw"
    (raw / mine).write_bytes((raw / other).read_bytes())
    options = mnist.MNISTOptions(limit=limit, test_limit=limit)
    for read in (mnist.MNIST.fingerprint, mnist.MNIST.load):
        with pytest.raises(InputError, match=r"of different splits"):
            read(options, tmp_path)


@pytest.mark.parametrize("limit", [None, 2])
def test_labels_of_another_data_set_are_refused(limit, tmp_path) -> None:
    write_family(tmp_path, "MNIST")
    labels = tmp_path / "MNIST" / "raw" / FILES[1]
    labels.write_bytes(idx_bytes(np.arange(40, dtype=np.uint8)))
    with pytest.raises(InputError, match="label above 9"):
        mnist.MNIST.fingerprint(mnist.MNISTOptions(limit=limit), tmp_path)


def test_the_default_normalisation_is_that_of_the_training_images(mnist_root) -> None:
    options = mnist.MNISTOptions(test_limit=1)
    pixels = tensor_inputs(mnist.MNIST.load(options, mnist_root).train)
    counts = pixels.flatten().bincount(minlength=256).double()
    values = torch.arange(256).double() / 255
    mean = (counts * values).sum() / counts.sum()
    std = ((counts * (values - mean) ** 2).sum() / counts.sum()).sqrt()
    assert float(mean) == pytest.approx(options.mean[0], abs=5e-5)
    assert float(std) == pytest.approx(options.std[0], abs=5e-5)


# CIFAR-10


def test_cifar_batches_read_as_torchvision_reads_them(synthetic_root, monkeypatch) -> None:
    from torchvision.datasets import CIFAR10

    unchecked: dict[str, Any] = {"train_list": [[Path(n).name, None] for n in cifar10.TRAIN]}
    unchecked["test_list"] = [[Path(n).name, None] for n in cifar10.TEST]
    unchecked["meta"] = {**CIFAR10.meta, "md5": None}
    for name, value in unchecked.items():
        monkeypatch.setattr(CIFAR10, name, value)
    raw = cifar10.load(cifar10.CIFAR10Options(), synthetic_root)
    for examples, train in ((raw.train, True), (raw.test, False)):
        reference = CIFAR10(synthetic_root, train=train)
        assert examples is not None
        assert np.array_equal(tensor_inputs(examples).permute(0, 2, 3, 1), reference.data)
        assert examples.targets.tolist() == reference.targets
    assert list(cifar10.CLASSES) == reference.classes


def test_cifar_reads_the_pickles_of_python_2(tmp_path) -> None:
    """The published files hold arrays' bytes as Python 2 strings, under numpy's old name."""
    import pickletools

    write_cifar10(tmp_path, each=1)
    path = tmp_path / cifar10.TEST[0]
    content = path.read_bytes()
    assert any(op.name == "BINUNICODE" for op, _, _ in pickletools.genops(content))
    old = (
        b"\x80\x02}q\x01(U\x06labels]K\x03aU\x04datacnumpy.core.multiarray\n_reconstruct\n"
        b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\n"
        b"U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T\x00\x0c\x00\x00" + bytes(range(256)) * 12 + b"tbu."
    )
    path.write_bytes(old)
    raw = cifar10.load(cifar10.CIFAR10Options(), tmp_path)
    assert raw.test is not None
    assert raw.test.targets.tolist() == [3]
    assert tensor_inputs(raw.test).flatten().tolist() == list(range(256)) * 12


def test_a_pickle_that_runs_code_is_refused_before_it_does(tmp_path) -> None:
    write_cifar10(tmp_path, each=1)
    trace = tmp_path / "trace"
    batch = {"labels": [1], "data": Evil(trace)}
    (tmp_path / cifar10.TRAIN[0]).write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(InputError, match=r"data_batch_1 .*mkdir"):
        cifar10.load(cifar10.CIFAR10Options(), tmp_path)
    assert not trace.exists()


def test_cut_batches_are_named_at_once_before_anything_runs(tmp_path) -> None:
    write_cifar10(tmp_path, each=4)
    for name in (cifar10.TRAIN[4], *cifar10.TEST):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"data_batch_5 is not[^$]*test_batch is not"):
        cifar10.fingerprint(cifar10.CIFAR10Options(limit=2), tmp_path)


@pytest.mark.parametrize(
    "batch",
    [
        {"labels": [10], "data": np.zeros((1, 3072), np.uint8)},
        {"labels": [1, 2], "data": np.zeros((1, 3072), np.uint8)},
        {"labels": [1], "data": np.zeros((1, 3072), np.float32)},
        {"labels": [1], "data": np.zeros((1, 3071), np.uint8)},
        {"labels": [1]},
        [],
    ],
)
def test_a_pickle_of_something_else_is_refused(batch, tmp_path) -> None:
    write_cifar10(tmp_path, each=1)
    (tmp_path / cifar10.TEST[0]).write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(InputError, match="test_batch is not a batch of CIFAR-10"):
        cifar10.load(cifar10.CIFAR10Options(), tmp_path)


def test_grey_is_pillows() -> None:
    images = torch.randint(256, (50, 3, 16, 16), dtype=torch.uint8)
    grey = convert_to_grey(images, ImageOptions(channels=1))
    for image, result in zip(images, grey, strict=True):
        reference = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
        assert np.array_equal(result[0], np.asarray(reference))


# Image options


def test_normalisation_has_one_value_a_channel(synthetic_root) -> None:
    options = mnist.MNISTOptions(channels=3, mean=(0.1, 0.2), std=(0.1, 0.2))
    with pytest.raises(InputError, match=r"mean has 2 values for 3 channel") as caught:
        mnist.MNIST.info(options, synthetic_root)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("wrong", [{"std": [0.0]}, {"mean": []}, {"size": 0}, {"channels": 2}])
def test_image_options_are_checked(wrong) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ImageOptions.model_validate(wrong)
