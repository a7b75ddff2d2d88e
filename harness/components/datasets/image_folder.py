"""Images of your own: a folder for each class, either in train/ and test/ or in one set."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import Field

from harness.components.base import (
    DataInfo,
    Dataset,
    Examples,
    ImageTransform,
    LazyInputs,
    RawData,
    SplitRule,
    file_option,
    not_in_id,
)
from harness.components.shared.data_files import combined_sha256, missing_file
from harness.components.shared.image_files import ImageFile, examine_all, read_pixels
from harness.components.shared.images import ImageOptions, Shape, image_info
from harness.components.shared.splitting import SPLITTING, StratifiedSplitOptions, training_size
from harness.core.errors import InputError, all_problems

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES: Final = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
SPLIT_NAMES: Final = frozenset({"train", "test", "val", "valid", "validation"})


class ImageFolderOptions(ImageOptions, StratifiedSplitOptions):
    """The split options apply to a folder without test/."""

    path: str = file_option(
        "images", "the folder, absolute, beside the experiment file, or below the data folder"
    )
    size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="height and width: the shorter side is resized to it, the centre is cropped; "
        "null if all images have the same size",
    )
    channels: Literal[1, 3] = Field(3, description="3 for colour, 1 for grey")
    memory_gb: Annotated[float, Field(ge=0)] = not_in_id(
        2.0, "decode all images in advance if they take no more memory than this; else when needed"
    )


Listing = tuple[tuple[Path, int], ...]
"""Image files, each with the number of its class."""


@dataclass(frozen=True, slots=True)
class FolderListing:
    """The classes and images of a folder. test: None if it has no test/."""

    classes: tuple[str, ...]
    train: Listing
    test: Listing | None

    @property
    def paths(self) -> tuple[Path, ...]:
        return tuple(path for path, _ in self.train + (self.test or ()))


@dataclass(frozen=True, slots=True)
class FolderImages(LazyInputs):
    """Images that are decoded when needed.

    fit: resize and crop those of another size. is_deep: some image has more than 8 bits a channel.
    """

    paths: tuple[Path, ...]
    shape: Shape
    fit: bool
    is_deep: bool = False

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Returns an image [C, H, W], uint8 or, if is_deep, float32.

        Raises InputError that names a file that cannot be read, or has another size and is not
        fitted.
        """
        import torch

        path, (channels, height, width) = self.paths[index], self.shape
        pixels = read_pixels(path, channels, (width, height) if self.fit else None)
        if pixels.shape != self.shape:
            raise _wrong_size(path, pixels.shape, self.shape)
        return torch.from_numpy(pixels.astype("float32" if self.is_deep else "uint8", copy=False))


def info(options: ImageFolderOptions, root: Path) -> DataInfo:
    folder = scan(options, root)
    return _describe(options, folder, _shape(options, folder))


def fingerprint(options: ImageFolderOptions, root: Path) -> str:
    """Raises InputError with every image that cannot be read, or has another size and is not
    fitted."""
    base, folder = _base(options, root), scan(options, root)
    images = _examine(options, folder)
    digest = combined_sha256({path.relative_to(base).as_posix(): path for path in folder.paths})
    if any(image.is_revised for image in images):
        digest = hashlib.sha256(f"{digest} revised".encode()).hexdigest()
    return digest


def load(options: ImageFolderOptions, root: Path) -> RawData:
    folder = scan(options, root)
    images = _examine(options, folder)
    shape = _shape(options, folder)
    is_deep = any(image.is_deep for image in images)
    size = len(folder.paths) * prod(shape) * (4 if is_deep else 1)
    lazy = size > options.memory_gb * 1e9

    def examples(listing: Listing) -> Examples:
        return _examples(listing, shape, options.size is not None, is_deep, lazy)

    return RawData(
        _describe(options, folder, shape),
        examples(folder.train),
        examples(folder.test) if folder.test else None,
        split=None if folder.test else options.split_rule(),
        prepare=ImageTransform(options.mean, options.std),
    )


def _describe(options: ImageFolderOptions, folder: FolderListing, shape: Shape) -> DataInfo:
    counts = Counter(folder.classes[number] for _, number in folder.train)
    # Without images, the folder test/ holds no split.
    rule = SplitRule(0.0) if folder.test else options.split_rule()
    described = image_info("image_folder", options, shape, folder.classes)
    return replace(described, examples=training_size(rule, counts))


def scan(options: ImageFolderOptions, root: Path) -> FolderListing:
    """Lists the folder. Raises DataMissing if it does not exist, InputError for a wrong layout."""
    base = _base(options, root)
    parts = {folder.name: folder for folder in _folders(base)}
    if "train" in parts and parts.keys() <= SPLIT_NAMES:
        train, test = parts.pop("train"), parts.pop("test", None)
        if parts:
            raise InputError(
                f"dataset image_folder: {base} has {', '.join(parts)}/ beside train/; "
                f"remove it, or move its images to train/: val_fraction cuts the validation split"
            )
    else:
        train, test = base, None
    classes = tuple(folder.name for folder in _folders(train))
    if len(classes) < 2:
        present = f"only {classes[0]}/" if classes else "none"
        raise InputError(
            f"dataset image_folder: {train} must have a folder for each of two or more classes, "
            f"and has {present}"
        )
    test_images = _listing(test, classes, may_be_empty=True) if test else None
    return FolderListing(classes, _listing(train, classes), test_images)


def _base(options: ImageFolderOptions, root: Path) -> Path:
    base = root / Path(options.path).expanduser()
    if not base.is_dir():
        raise missing_file("image_folder", options.path, root)
    return base


def _folders(base: Path) -> list[Path]:
    return sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))


def _listing(base: Path, classes: Sequence[str], may_be_empty: bool = False) -> Listing:
    """Returns the images of each class, in the order of their paths.

    may_be_empty: whether a class may have no images.
    Raises InputError for a class that is not in `classes`.
    """
    unknown = [folder.name for folder in _folders(base) if folder.name not in classes]
    if unknown:
        raise InputError(f"dataset image_folder: {base} has classes that train/ lacks: {unknown}")
    listing: list[tuple[Path, int]] = []
    for number, name in enumerate(classes):
        images = sorted(path for path in (base / name).rglob("*") if _is_image(path))
        if not images and not may_be_empty:
            raise InputError(f"dataset image_folder: {base / name} has no images")
        listing += [(path, number) for path in images]
    return tuple(listing)


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _shape(options: ImageFolderOptions, folder: FolderListing) -> Shape:
    """Returns the shape that images are decoded to: by `size`, or that of the first image."""
    if options.size:
        return (options.channels, options.size, options.size)
    try:
        _, height, width = read_pixels(folder.paths[0], options.channels).shape
    except InputError:
        examine_all(folder.paths)  # It names all files that cannot be read.
        raise
    return (options.channels, height, width)


def _examine(options: ImageFolderOptions, folder: FolderListing) -> list[ImageFile]:
    """Raises InputError with every image that cannot be read, or has another size and is not
    fitted."""
    images = examine_all(folder.paths)
    if options.size is None:
        shape = _shape(options, folder)
        with all_problems() as attempt:
            for path, image in zip(folder.paths, images, strict=True):
                if image.size != shape[:0:-1]:
                    attempt(FolderImages((path,), shape, fit=False).__getitem__, 0)
    return images


def _wrong_size(path: Path, shape: Sequence[int], expected: Shape) -> InputError:
    return InputError(
        f"dataset image_folder: {path} has {shape[2]}×{shape[1]} pixels, the first image "
        f"{expected[2]}×{expected[1]}: set size"
    )


def _examples(listing: Listing, shape: Shape, fit: bool, is_deep: bool, lazy: bool) -> Examples:
    import torch

    labels = torch.tensor([number for _, number in listing], dtype=torch.int64)
    inputs: Any = FolderImages(tuple(path for path, _ in listing), shape, fit, is_deep)
    if not lazy:
        # Pillow releases the interpreter lock while it decodes.
        with ThreadPoolExecutor() as threads:
            inputs = torch.stack(list(threads.map(inputs.__getitem__, range(len(inputs)))))
    return Examples(inputs, labels)


COMPONENTS = (
    Dataset(
        name="image_folder",
        description="images of your own: one folder per class, in train/ and test/ or in one set",
        reference="the layout of torchvision.datasets.ImageFolder",
        options=ImageFolderOptions,
        tiny=({"size": 8}, {"size": 12, "channels": 1, "memory_gb": 0.0}),
        info=info,
        fingerprint=fingerprint,
        load=load,
        imports=SPLITTING,
    ),
)
