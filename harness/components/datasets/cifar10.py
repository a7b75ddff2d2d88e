"""CIFAR-10: small colour photographs, in the pickled batches of torchvision's layout.

The unpickler accepts arrays and nothing else, so that a file of unknown origin cannot run code.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import Field

from harness.components.base import DataInfo, Dataset, Examples, RawData
from harness.components.shared.data_files import cached_by_file, combined_sha256, download_missing
from harness.components.shared.images import (
    Deviations,
    DownloadOptions,
    ImageOptions,
    Means,
    convert_to_grey,
    image_info,
    image_transform,
)
from harness.core.errors import InputError, all_problems

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

FOLDER: Final = "cifar-10-batches-py"
TRAIN: Final = tuple(f"{FOLDER}/data_batch_{n}" for n in range(1, 6))
TEST: Final = (f"{FOLDER}/test_batch",)
SHAPE: Final = (3, 32, 32)
CLASSES: Final = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class CIFAR10Options(ImageOptions, DownloadOptions):
    """The defaults of mean and std are those of the training images."""

    mean: Means = Field((0.4914, 0.4822, 0.4465), description="subtracted from each channel")
    std: Deviations = Field((0.2470, 0.2435, 0.2616), description="divides each channel")


def info(options: CIFAR10Options, root: Path) -> DataInfo:
    described = image_info("cifar10", options, SHAPE, CLASSES)
    return replace(described, examples=_size(options, root))


def fingerprint(options: CIFAR10Options, root: Path) -> str:
    """Raises InputError with every file that is not a batch of CIFAR-10."""
    files = _files(options, root)
    with all_problems() as attempt:
        for path in files.values():
            attempt(_count, path)
    return combined_sha256(files)


def load(options: CIFAR10Options, root: Path) -> RawData:
    files = _files(options, root)
    return RawData(
        info(options, root),
        _examples([files[name] for name in TRAIN], options, options.limit),
        _examples([files[name] for name in TEST], options, options.test_limit),
        prepare=image_transform(options),
    )


def _files(options: CIFAR10Options, root: Path) -> dict[str, Path]:
    names = (*TRAIN, *TEST)
    download_missing("cifar10", names, root, _download, options.download)
    return {name: root / name for name in names}


def _size(options: CIFAR10Options, root: Path) -> int | None:
    """Returns the number of training examples; None if their files are not there to be read."""
    with suppress(InputError, OSError):
        n = sum(_count(root / name) for name in TRAIN)
        return min(n, options.limit or n)
    return None


@cached_by_file()
def _count(path: Path) -> int:
    """Returns the number of examples of a batch file. Raises InputError if it is none."""
    return len(_read(path)[1])


def _download(folder: Path) -> None:
    from torchvision.datasets import CIFAR10

    CIFAR10(folder, download=True)


def _examples(paths: Sequence[Path], options: CIFAR10Options, limit: int | None) -> Examples:
    import numpy as np
    import torch

    batches: list[tuple[Array, Array]] = []
    for path in paths:
        batches.append(_read(path))
        if limit is not None and sum(len(labels) for _, labels in batches) >= limit:
            break
    images, targets = (np.concatenate(parts)[:limit] for parts in zip(*batches, strict=True))
    return Examples(convert_to_grey(torch.from_numpy(images), options), torch.from_numpy(targets))


def _read(path: Path) -> tuple[Array, Array]:
    """Returns the images [N, 3, 32, 32] uint8 and the labels [N] int64 of a batch file."""
    import numpy as np

    try:
        with path.open("rb") as file:
            batch = _ArraysOnly(file, encoding="latin1").load()
        data, labels = np.asarray(batch["data"]), np.asarray(batch["labels"])
        images = data.reshape(-1, *SHAPE)
    except Exception as error:  # A damaged pickle can raise anything.
        raise InputError(
            f"{path} is not a batch of CIFAR-10 ({error}): download it again"
        ) from error
    labels_valid = labels.dtype.kind == "i" and ((labels >= 0) & (labels < len(CLASSES))).all()
    if images.dtype != np.uint8 or labels.shape != images.shape[:1] or not labels_valid:
        raise InputError(f"{path} is not a batch of CIFAR-10: download it again")
    return images, labels.astype(np.int64)


class _ArraysOnly(pickle.Unpickler):
    """Unpickles primitives and numpy arrays, and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        import numpy as np

        reference = (module.replace("numpy._core", "numpy.core"), name)
        if reference == ("numpy.core.multiarray", "_reconstruct"):
            return np.empty(0).__reduce__()[0]
        if reference in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if reference == ("_codecs", "encode"):  # Python 3 writes bytes so in old protocols.
            return _latin1
        raise pickle.UnpicklingError(f"it refers to {module}.{name}")


def _latin1(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes bytes as {encoding}")
    return text.encode("latin1")


COMPONENTS = (
    Dataset(
        name="cifar10",
        description="50,000 + 10,000 colour photographs of 10 classes, 32×32",
        reference="Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009)",
        options=CIFAR10Options,
        tiny=(
            {"limit": 256, "test_limit": 128, "download": False},
            {"limit": 64, "channels": 1, "mean": [0.5], "std": [0.25], "download": False},
        ),
        info=info,
        fingerprint=fingerprint,
        load=load,
    ),
)
