"""MNIST and the data sets in its format, Fashion-MNIST and KMNIST.

The four idx files lie where torchvision puts them, in <folder>/raw/. They are read here, because
torchvision takes seconds to import in every worker and does not read compressed files. The format:
http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import IO, Final

from pydantic import Field

from harness.components.base import DataInfo, Dataset, Examples, RawData
from harness.components.shared.data_files import (
    cached_by_file,
    combined_sha256,
    download_missing,
    read_unzipped,
)
from harness.components.shared.images import (
    Deviations,
    DownloadOptions,
    ImageOptions,
    Means,
    image_info,
    image_transform,
)
from harness.core.errors import InputError, all_problems

FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHAPE: Final = (1, 28, 28)
UNSIGNED_BYTE: Final = 0x08
PART_BYTES: Final = 1 << 20
MEAN, STD = "subtracted from each pixel", "divides each pixel"
FASHION_CLASSES: Final = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
KMNIST_CLASSES: Final = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")


class MNISTOptions(ImageOptions, DownloadOptions):
    """The defaults of mean and std are those of the training images."""

    mean: Means = Field((0.1307,), description=MEAN)
    std: Deviations = Field((0.3081,), description=STD)


class FashionMNISTOptions(MNISTOptions):
    mean: Means = Field((0.2860,), description=MEAN)
    std: Deviations = Field((0.3530,), description=STD)


class KMNISTOptions(MNISTOptions):
    mean: Means = Field((0.1918,), description=MEAN)
    std: Deviations = Field((0.3483,), description=STD)


@dataclass(frozen=True)
class MNISTFamily:
    """A data set in MNIST's format. Its methods are the functions of a `Dataset`.

    folder: below the data folder; also the torchvision class that downloads the data set.
    """

    name: str
    folder: str
    classes: tuple[str, ...]

    def dataset(self, options: type[MNISTOptions], description: str, reference: str) -> Dataset:
        return Dataset(
            name=self.name,
            description=description,
            reference=reference,
            options=options,
            tiny=(
                {"limit": 256, "test_limit": 128, "download": False},
                {"limit": 64, "test_limit": 32, "size": 12, "channels": 3, "download": False},
            ),
            info=self.info,
            fingerprint=self.fingerprint,
            load=self.load,
        )

    def info(self, options: MNISTOptions, root: Path) -> DataInfo:
        described = image_info(self.name, options, SHAPE, self.classes)
        return replace(described, examples=self._size(options, root))

    def fingerprint(self, options: MNISTOptions, root: Path) -> str:
        """The SHA-256 of the decompressed files, the same for compressed and plain ones.

        Raises InputError with every file that is damaged or does not belong to the others.
        """
        files = self._files(options, root)
        self._check(files)
        return combined_sha256(files)

    def load(self, options: MNISTOptions, root: Path) -> RawData:
        files = self._files(options, root)
        images, labels, test_images, test_labels = (files[name] for name in FILES)
        return RawData(
            self.info(options, root),
            self._examples(images, labels, options.limit),
            self._examples(test_images, test_labels, options.test_limit),
            prepare=image_transform(options),
        )

    def _files(self, options: MNISTOptions, root: Path) -> dict[str, Path]:
        files = {}
        for name in FILES:
            plain, compressed = f"{self.folder}/raw/{name}", f"{self.folder}/raw/{name}.gz"
            only_compressed = (root / compressed).is_file() and not (root / plain).is_file()
            files[name] = compressed if only_compressed else plain
        download_missing(self.name, files.values(), root, self._download, options.download)
        return {name: root / file for name, file in files.items()}

    def _size(self, options: MNISTOptions, root: Path) -> int | None:
        """Returns the number of training examples; None if their file is not there to be read."""
        for name in (FILES[1], f"{FILES[1]}.gz"):
            with suppress(InputError):
                path = root / self.folder / "raw" / name
                with read_unzipped(path) as file:
                    return min(_count(path, file.read(8), ()), options.limit or sys.maxsize)
        return None

    def _download(self, folder: Path) -> None:
        import torchvision

        getattr(torchvision.datasets, self.folder)(folder, download=True)

    def _check(self, files: Mapping[str, Path]) -> None:
        """Raises InputError with every file that is damaged, or of another split than its pair."""
        with all_problems() as attempt:
            for name, file in files.items():
                attempt(count_items, file, SHAPE[1:] if "images" in name else ())
        with all_problems() as attempt:
            for images, labels in (FILES[:2], FILES[2:]):
                attempt(self._labels, files[images], files[labels])

    def _examples(self, images: Path, labels: Path, limit: int | None) -> Examples:
        import torch

        targets = bytearray(self._labels(images, labels)[:limit])
        pixels, _ = read_idx(images, SHAPE[1:], limit)
        inputs = torch.frombuffer(pixels, dtype=torch.uint8).view(-1, *SHAPE)
        return Examples(inputs, torch.frombuffer(targets, dtype=torch.uint8).long())

    def _labels(self, images: Path, labels: Path) -> bytes:
        """Returns all labels. Raises InputError if they are not those of the images: the first ones
        of another split would fit."""
        n, targets = count_items(images, SHAPE[1:]), read_labels(labels)
        if n != len(targets):
            raise InputError(
                f"{images} has {n} images, {labels} {len(targets)} labels: they are of different "
                "splits"
            )
        if max(targets) >= len(self.classes):
            raise InputError(f"{labels} has a label above {len(self.classes) - 1}")
        return targets


@cached_by_file()
def count_items(path: Path, shape: tuple[int, ...]) -> int:
    """Returns how many items an idx file has. Raises as `read_idx` does."""
    return read_idx(path, shape, limit=1)[1]


@cached_by_file()
def read_labels(path: Path) -> bytes:
    """Returns the labels of an idx file. Raises as `read_idx` does."""
    return bytes(read_idx(path, ())[0])


def read_idx(path: Path, shape: tuple[int, ...], limit: int | None = None) -> tuple[bytearray, int]:
    """Returns the first `limit` items of an idx file of bytes, and how many items the file has.

    Raises InputError if the file is shorter or longer than its header says, or has another format
    or shape.
    """
    with read_unzipped(path) as file:
        n = _count(path, file.read(8 + 4 * len(shape)), shape)
        content = _read_at_most(file, min(n, limit or n) * prod(shape))
        size = len(content) + _remaining(path, file)
    if n == 0 or size < n * prod(shape):
        raise InputError(f"{path} is empty or truncated: download it again")
    if size > n * prod(shape):
        raise InputError(f"{path} is longer than its header says: download it again")
    return content, n


def _read_at_most(file: IO[bytes], size: int) -> bytearray:
    """Reads in parts, as a damaged header may promise more than fits into memory."""
    content = bytearray()
    while part := file.read(min(PART_BYTES, size - len(content))):
        content += part
    return content


def _remaining(path: Path, file: IO[bytes]) -> int:
    """Returns how many bytes follow in an open file. A compressed one must be read for that."""
    if path.suffix != ".gz":
        return path.stat().st_size - file.tell()
    return sum(map(len, iter(lambda: file.read(PART_BYTES), b"")))


def _count(path: Path, header: bytes, shape: tuple[int, ...]) -> int:
    """Returns the number of items in an idx header: 0, 0, type, rank, then each dimension."""
    rank = 1 + len(shape)
    if header[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)) or len(header) != 4 + 4 * rank:
        raise InputError(f"{path} is not an idx file of {rank}-dimensional bytes")
    n, *item_shape = struct.unpack(f">{rank}I", header[4:])
    if tuple(item_shape) != shape:
        raise InputError(f"{path} has items of shape {item_shape}, not {list(shape)}")
    return int(n)


MNIST = MNISTFamily("mnist", "MNIST", tuple("0123456789"))
FASHION_MNIST = MNISTFamily("fashion_mnist", "FashionMNIST", FASHION_CLASSES)
KMNIST = MNISTFamily("kmnist", "KMNIST", KMNIST_CLASSES)

COMPONENTS = (
    MNIST.dataset(
        options=MNISTOptions,
        description="60,000 + 10,000 handwritten digits, 28×28",
        reference="LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86 (1998)",
    ),
    FASHION_MNIST.dataset(
        options=FashionMNISTOptions,
        description="60,000 + 10,000 grey pictures of clothes, 28×28",
        reference="Xiao, Rasul and Vollgraf, arXiv:1708.07747 (2017)",
    ),
    KMNIST.dataset(
        options=KMNISTOptions,
        description="60,000 + 10,000 handwritten Japanese characters, 28×28",
        reference="Clanuwat et al., arXiv:1812.01718 (2018)",
    ),
)
