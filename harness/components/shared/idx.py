"""MNIST and the data sets in its format: four idx files, as torchvision lays them out.

The files are read here rather than by torchvision, whose import takes seconds in every worker and
which reads no packed file. The format: http://yann.lecun.com/exdb/mnist/
"""

from __future__ import annotations

import gzip
import struct
import sys
import zlib
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.components.base import DataInfo, Examples, RawData
from harness.components.shared.data_files import fetch, fingerprint, missing, opened
from harness.components.shared.images import FetchedOptions, ImageOptions, image_info, prepare
from harness.core.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

FILES: Final = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
SHAPE: Final = (1, 28, 28)
UNSIGNED_BYTE: Final = 0x08


class MNISTOptions(ImageOptions, FetchedOptions):
    """Options of the MNIST family."""


@dataclass(frozen=True)
class MNISTFamily:
    """A data set of MNIST's format; its methods are what a `Dataset` record wants.

    folder: below the data folder, and also torchvision's class, which downloads it.
    """

    name: str
    folder: str
    classes: tuple[str, ...]

    def info(self, options: MNISTOptions, root: Path) -> DataInfo:
        return image_info(self.name, options, SHAPE, self.classes)

    def fingerprint(self, options: MNISTOptions, root: Path) -> str:
        """Of the unpacked content, so that packed files are the same data."""
        return fingerprint(self._files(options, root))

    def load(self, options: MNISTOptions, root: Path) -> RawData:
        files = self._files(options, root)
        train, test = (
            self._examples(files[images], files[labels], limit)
            for images, labels, limit in (
                (FILES[0], FILES[1], options.limit),
                (FILES[2], FILES[3], options.test_limit),
            )
        )
        return RawData(self.info(options, root), train, test, prepare=prepare(options))

    def _files(self, options: MNISTOptions, root: Path) -> dict[str, Path]:
        found = self._present(root)
        absent = [f"{self.folder}/raw/{name}" for name in FILES if name not in found]
        if not absent:
            return found
        if not options.download:
            raise missing(self.name, absent[0], root)
        fetch(self.name, absent, root, self._download)
        return self._present(root)

    def _present(self, root: Path) -> dict[str, Path]:
        folder = root / self.folder / "raw"
        forms = ((name, folder / f"{name}{suffix}") for suffix in (".gz", "") for name in FILES)
        return {name: path for name, path in forms if path.is_file()}

    def _download(self, folder: Path) -> None:
        import torchvision

        getattr(torchvision.datasets, self.folder)(folder, download=True)

    def _examples(self, images: Path, labels: Path, limit: int | None) -> Examples:
        pixels, targets = read_idx(images, SHAPE[1:], limit), read_idx(labels, (), limit)
        if len(pixels) != len(targets):
            raise InputError(f"{images} has {len(pixels)} images, {labels} {len(targets)} labels")
        if len(targets) and int(targets.max()) >= len(self.classes):
            raise InputError(f"{labels} has a label above {len(self.classes) - 1}")
        return Examples(pixels.unsqueeze(1), targets.long())


def read_idx(path: Path, shape: tuple[int, ...], limit: int | None = None) -> Tensor:
    """The first `limit` items of an idx file of bytes, packed or not: [N, *shape] uint8.

    Raises InputError where the file is of another format, cut short, or of another shape.
    """
    import torch

    try:
        with opened(path) as file:
            n = min(_count(path, file.read(8 + 4 * len(shape)), shape), limit or sys.maxsize)
            content = bytearray(file.read(n * prod(shape)))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} cannot be unpacked ({error}): fetch it again") from error
    if not content or len(content) != n * prod(shape):
        raise InputError(f"{path} is empty or cut short: fetch it again")
    return torch.frombuffer(content, dtype=torch.uint8).reshape(n, *shape)


def _count(path: Path, header: bytes, shape: tuple[int, ...]) -> int:
    """The number of items that an idx header gives: 0, 0, type, rank, then each dimension."""
    rank = 1 + len(shape)
    if header[:4] != bytes((0, 0, UNSIGNED_BYTE, rank)) or len(header) != 4 + 4 * rank:
        raise InputError(f"{path} is not an idx file of {rank}-dimensional bytes")
    n, *found = struct.unpack(f">{rank}I", header[4:])
    if tuple(found) != shape:
        raise InputError(f"{path} has items of shape {found}, where {list(shape)} is wanted")
    return int(n)
