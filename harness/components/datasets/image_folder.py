"""Images of the user's own: one folder a class, under train/ and test/ or in one set to cut."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
    not_in_id,
)
from harness.components.shared.data_files import fingerprint as of_files
from harness.components.shared.data_files import missing
from harness.components.shared.images import ImageOptions, Shape, image_info
from harness.components.shared.splitting import SPLITTING, StratifiedSplitOptions
from harness.core.errors import InputError

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

SUFFIXES: Final = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
NAMES_OF_SPLITS: Final = frozenset({"train", "test", "val", "valid", "validation"})


class ImageFolderOptions(ImageOptions, StratifiedSplitOptions):
    """The split options cut a folder that has no train/ and test/ of its own."""

    path: str = not_in_id("images", "the folder, absolute or below the data folder")
    size: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="height and width: the shorter side is resized to it and the middle cut out; "
        "null where all images are of one size",
    )
    channels: Literal[1, 3] = Field(3, description="3 for colours, 1 for grey")
    memory_gb: Annotated[float, Field(ge=0)] = not_in_id(
        2.0, "decode all images beforehand where they take no more than this; else as they come"
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """A set of image files. labels: the class number of each path."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Folder:
    """What a folder holds; test is None where it has no test/."""

    classes: tuple[str, ...]
    train: Listing
    test: Listing | None

    @property
    def paths(self) -> tuple[Path, ...]:
        return self.train.paths + (self.test.paths if self.test else ())


@dataclass(frozen=True, slots=True)
class FolderImages(LazyInputs):
    """Images decoded when they are asked for. fit: scale and cut those of another size."""

    paths: tuple[Path, ...]
    shape: Shape
    fit: bool

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        return decode(self.paths[index], self.shape, self.fit)


def info(options: ImageFolderOptions, root: Path) -> DataInfo:
    folder = scan(options, root)
    return image_info("image_folder", options, _shape(options, folder), folder.classes)


def fingerprint(options: ImageFolderOptions, root: Path) -> str:
    base = _base(options, root)
    return of_files({path.relative_to(base).as_posix(): path for path in scan(options, root).paths})


def load(options: ImageFolderOptions, root: Path) -> RawData:
    folder = scan(options, root)
    shape = _shape(options, folder)
    bytes_needed = len(folder.paths) * shape[0] * shape[1] * shape[2]
    lazy = bytes_needed > options.memory_gb * 1e9
    return RawData(
        image_info("image_folder", options, shape, folder.classes),
        _examples(folder.train, options, shape, lazy),
        _examples(folder.test, options, shape, lazy) if folder.test else None,
        split=None if folder.test else options.rule(),
        prepare=ImageTransform(options.mean, options.std),
    )


def scan(options: ImageFolderOptions, root: Path) -> Folder:
    """Lists the folder. Raises DataMissing where it is absent, InputError where it makes no set."""
    base = _base(options, root)
    parts = {folder.name: folder for folder in _folders(base)}
    if "train" not in parts or not parts.keys() <= NAMES_OF_SPLITS:
        classes = tuple(parts)
        return Folder(_enough(classes, base), _listing(base, classes), None)
    extra = parts.keys() - {"train", "test"}
    if extra:
        raise InputError(
            f"dataset image_folder: {base} has {', '.join(sorted(extra))}/ beside train/; "
            f"move it away, or its images to train/: val_fraction cuts the validation split"
        )
    classes = _enough(tuple(folder.name for folder in _folders(parts["train"])), parts["train"])
    test = _listing(parts["test"], classes, may_lack=True) if "test" in parts else None
    return Folder(classes, _listing(parts["train"], classes), test)


def decode(path: Path, shape: Shape, fit: bool) -> Tensor:
    """An image [C, H, W] uint8: turned upright, made grey or coloured, scaled and cut to shape.

    Raises InputError naming a file that cannot be read, or is of another size and not to `fit`.
    """
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    image = _open(path, "L" if shape[0] == 1 else "RGB")
    size = (shape[2], shape[1])
    if image.size != size:
        if not fit:
            raise InputError(
                f"dataset image_folder: {path} is of {image.width}×{image.height} pixels, the "
                f"first image of {size[0]}×{size[1]}: set size"
            )
        image = ImageOps.fit(image, size, method=Image.Resampling.BILINEAR)
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels.reshape(*shape[1:], shape[0]).permute(2, 0, 1).contiguous()


def _open(path: Path, mode: str) -> Image.Image:
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert(mode)
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError and others
        raise InputError(f"dataset image_folder: {path} cannot be read: {error}") from error


def _base(options: ImageFolderOptions, root: Path) -> Path:
    base = root / Path(options.path).expanduser()
    if not base.is_dir():
        raise missing("image_folder", options.path, root)
    return base


def _folders(base: Path) -> list[Path]:
    return sorted(p for p in base.iterdir() if p.is_dir() and not p.name.startswith("."))


def _enough(classes: tuple[str, ...], base: Path) -> tuple[str, ...]:
    if len(classes) < 2:
        found = f"{classes[0]}/ alone" if classes else "none"
        raise InputError(
            f"dataset image_folder: {base} must have a folder for each of two or more classes, "
            f"and has {found}"
        )
    return classes


def _listing(base: Path, classes: Sequence[str], may_lack: bool = False) -> Listing:
    """The images of each class, in the order of their paths.

    may_lack: whether a class may have none. A class that is not among `classes` is refused.
    """
    unknown = [folder.name for folder in _folders(base) if folder.name not in classes]
    if unknown:
        raise InputError(f"dataset image_folder: {base} has classes that train/ lacks: {unknown}")
    paths: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(classes):
        found = sorted(path for path in (base / name).rglob("*") if _is_image(path))
        if not found and not may_lack:
            raise InputError(f"dataset image_folder: {base / name} has no images")
        paths += found
        labels += [number] * len(found)
    return Listing(tuple(paths), tuple(labels))


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _shape(options: ImageFolderOptions, folder: Folder) -> Shape:
    """The shape images are decoded to; without `size`, the first one's."""
    if options.size:
        return (options.channels, options.size, options.size)
    width, height = _open(folder.paths[0], "L").size
    return (options.channels, height, width)


def _examples(listing: Listing, options: ImageFolderOptions, shape: Shape, lazy: bool) -> Examples:
    import torch

    labels = torch.tensor(listing.labels, dtype=torch.int64)
    inputs: Any = FolderImages(listing.paths, shape, fit=options.size is not None)
    if not lazy:
        # Pillow decodes outside the interpreter's lock.
        with ThreadPoolExecutor() as threads:
            inputs = torch.stack(list(threads.map(inputs.__getitem__, range(len(inputs)))))
    return Examples(inputs, labels)


COMPONENTS = (
    Dataset(
        name="image_folder",
        description="images of your own: a folder a class, in train/ and test/ or in one set",
        reference="the layout of torchvision.datasets.ImageFolder",
        options=ImageFolderOptions,
        tiny=({"size": 8}, {"size": 12, "channels": 1, "memory_gb": 0.0}),
        info=info,
        fingerprint=fingerprint,
        load=load,
        imports=SPLITTING,
    ),
)
