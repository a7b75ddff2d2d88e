"""Images: the options they share, and how these become what is known and what is prepared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from harness.components.base import DataInfo, ImageTransform, Numbers, Options, Task
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    from torch import Tensor

Deviations = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], Field(strict=False, min_length=1, max_length=3)
]
Shape = tuple[int, int, int]
"""Channels, height, width."""


class ImageOptions(Options):
    """How stored images become a model's inputs: (pixel in [0, 1] − mean) / std."""

    size: int | None = Field(
        None, ge=1, le=4096, description="height and width to resize to; null leaves as stored"
    )
    channels: Literal[1, 3] | None = Field(
        None, description="1 makes colours grey, 3 repeats grey; null leaves as stored"
    )
    mean: Numbers = Field(
        (0.5,), min_length=1, max_length=3, description="taken off each channel, or all"
    )
    std: Deviations = Field((0.5,), description="each channel, or all, is divided by")


class FetchedOptions(Options):
    """Options of a public data set with test examples of its own, a limit for quick looks."""

    limit: int | None = Field(
        None, ge=1, description="at most this many training examples, the first ones"
    )
    test_limit: int | None = Field(
        None, ge=1, description="at most this many test examples, the first ones"
    )
    download: bool = Field(
        True,
        description="fetch the files where they are absent",
        json_schema_extra={"not_in_id": True},  # the files' checksum says what is trained on
    )


def image_info(
    dataset: str, options: ImageOptions, stored: Shape, classes: tuple[str, ...]
) -> DataInfo:
    """What is known of images to classify. Raises InputError where mean or std do not fit."""
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
    return DataInfo(task, (channels, height, width), classes)


def prepare(options: ImageOptions, maximum: float = 255.0) -> ImageTransform:
    """The preparation these options describe. maximum: the stored value that means 1."""
    size = (options.size, options.size) if options.size else None
    return ImageTransform(options.mean, options.std, size, options.channels, maximum)


def stored(images: Tensor, options: ImageOptions) -> Tensor:
    """Images [N, C, H, W] uint8 as they are kept: made grey where one channel is wanted of three.

    The weights are ITU-R BT.601's, rounded as Pillow rounds them; `ImagePrepare` does the rest.
    """
    if options.channels != 1 or images.shape[1] == 1:
        return images
    import torch

    # Colour images in 32-bit integers take four times their memory: some at a time.
    return torch.cat([_grey(part) for part in images.split(4096)])


def _grey(images: Tensor) -> Tensor:
    import torch

    red, green, blue = images.to(torch.int32).split(1, dim=1)
    luma: Tensor = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16
    return luma.to(torch.uint8)
