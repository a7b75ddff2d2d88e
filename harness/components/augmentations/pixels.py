"""Random changes of pixel values: an erased rectangle, and Gaussian noise."""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

from pydantic import Field, model_validator

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class EraseOptions(Options):
    p: float = Field(0.5, ge=0, le=1, description="probability for each image")
    smallest: float = Field(0.02, gt=0, le=1, description="smallest fraction of the image's area")
    largest: float = Field(0.33, gt=0, le=1, description="largest fraction of the image's area")
    aspect: float = Field(
        3.3, ge=1, description="largest ratio of the rectangle's longer side to its shorter side"
    )
    fill: float = Field(
        0.0, description="fill value, in normalised units, in which the mean pixel is 0"
    )

    @model_validator(mode="after")
    def _ordered(self) -> EraseOptions:
        if self.smallest > self.largest:
            raise ValueError(f"smallest ({self.smallest}) is above largest ({self.largest})")
        return self


def build_erase(options: EraseOptions) -> AugmentationFunction:
    def erase(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.rand(5, len(batch), generator=generator, device=batch.device)
        inside = _rectangles(drawn[1:], batch.shape[-2], batch.shape[-1], options)
        chosen = (drawn[0] < options.p).view(-1, 1, 1)
        return torch.where((chosen & inside).unsqueeze(1), options.fill, batch)

    return erase


def _rectangles(drawn: Tensor, height: int, width: int, options: EraseOptions) -> Tensor:
    """Returns masks [B, H, W], true inside one rectangle for each image.

    drawn: [4, B] in [0, 1): for the area, the log of the aspect ratio, and the position.
    A side longer than the image's is clipped. The paper draws again instead.
    """
    import torch

    area = height * width * (options.smallest + drawn[0] * (options.largest - options.smallest))
    ratio = ((2 * drawn[1] - 1) * log(options.aspect)).exp()
    tall = (area * ratio).sqrt().round().clamp(1, height)
    wide = (area / ratio).sqrt().round().clamp(1, width)
    top = (drawn[2] * (height - tall + 1)).floor()
    left = (drawn[3] * (width - wide + 1)).floor()
    rows = torch.arange(height, device=drawn.device)
    columns = torch.arange(width, device=drawn.device)
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    return in_rows[:, :, None] & in_columns[:, None, :]


class NoiseOptions(Options):
    std: float = Field(0.1, gt=0, description="standard deviation, in normalised units")


def build_noise(options: NoiseOptions) -> AugmentationFunction:
    def noise(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.randn(
            batch.shape, generator=generator, device=batch.device, dtype=batch.dtype
        )
        return batch + options.std * drawn

    return noise


COMPONENTS = (
    Augmentation(
        name="erase",
        description="replace a random rectangle by a constant",
        reference="Zhong et al., Random Erasing Data Augmentation, arXiv:1708.04896 (2017)",
        options=EraseOptions,
        tiny=({}, {"p": 1.0, "fill": -1.0}),
        build=build_erase,
    ),
    Augmentation(
        name="noise",
        description="add Gaussian noise to each pixel",
        reference="Bishop, Neural Computation 7 (1995)",
        options=NoiseOptions,
        tiny=({}, {"std": 1.0}),
        build=build_noise,
    ),
)
