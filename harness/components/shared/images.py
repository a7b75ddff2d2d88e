"""Options of image data sets, and the preprocessing that they describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.components.base import (
    DataInfo,
    ImageTransform,
    Numbers,
    Options,
    Task,
    new_option,
    not_in_id,
)
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from torch import Tensor

Means = Annotated[Numbers, Field(min_length=1, max_length=3)]
"""Type of an option for one to three means."""
Deviations = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1, max_length=3)
]
"""Type of an option for one to three standard deviations."""
Shape = tuple[int, int, int]
"""Channels, height, width."""
AutoOrAutoencoding = Literal["auto", "autoencoding"]
AUTOENCODING = "auto: to predict the data set's own target; autoencoding: to reconstruct the input"


class ImageOptions(Options):
    """How stored images become a model's inputs: (pixel in [0, 1] − mean) / std."""

    size: int | None = Field(
        None, ge=1, le=4096, description="height and width to resize to; null: as stored"
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 converts colours to grey, 3 repeats grey; null: as stored"
    )
    mean: Means = Field((0.5,), description="subtracted from each channel, or from all")
    std: Deviations = Field((0.5,), description="divides each channel, or all")
    task: AutoOrAutoencoding = new_option("auto", AUTOENCODING)


class DownloadOptions(Options):
    """Options of a public data set, which can be downloaded and has separate test examples."""

    limit: int | None = Field(None, ge=1, description="use only the first training examples")
    test_limit: int | None = Field(None, ge=1, description="use only the first test examples")
    download: bool = not_in_id(True, "download the files if they are missing")


def image_info(
    dataset: str, options: ImageOptions, stored: Shape, classes: tuple[str, ...]
) -> DataInfo:
    """Returns the DataInfo of a classification of images, or of their reconstruction.

    stored: the shape of the stored images.
    Raises InputError if mean or std do not match the number of channels.
    """
    channels = options.channels or stored[0]
    problems = [
        Problem(f"dataset {dataset}: {name} has {len(values)} values for {channels} channel(s)")
        for name, values in (("mean", options.mean), ("std", options.std))
        if len(values) not in (1, channels)
    ]
    if problems:
        raise InputError(problems)
    height, width = (options.size, options.size) if options.size else stored[1:]
    task = Task.BINARY if len(classes) == 2 else Task.MULTICLASS
    return DataInfo(task, (channels, height, width), classes).for_task(options.task)


def image_transform(options: ImageOptions, maximum: float = 255.0) -> ImageTransform:
    """Returns the preprocessing that the options describe. maximum: the value of a white pixel."""
    size = (options.size, options.size) if options.size else None
    return ImageTransform(options.mean, options.std, size, options.channels, maximum)


def convert_to_grey(images: Tensor, options: ImageOptions) -> Tensor:
    """Returns images [N, C, H, W] uint8, in grey if the options ask for one channel of three.

    The weights are those of ITU-R BT.601, with Pillow's rounding. `ImageTransform` does the rest.
    """
    if options.channels != 1 or images.shape[1] == 1:
        return images
    import torch

    grey: list[Tensor] = []
    for part in images.split(
        4096
    ):  # 32-bit integers of all images would take 4 times their memory.
        red, green, blue = part.to(torch.int32).split(1, dim=1)
        luma = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
        grey.append(luma.to(torch.uint8))
    return torch.cat(grey)
