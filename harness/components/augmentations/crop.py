"""Random crop of the padded image, which shifts the image by some pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CropOptions(Options):
    padding: int = Field(4, ge=1, description="pixels added on each side; the largest shift")
    mode: Literal["replicate", "reflect", "constant"] = Field(
        "replicate", description="added pixels: the edge, its reflection, or `fill`"
    )
    fill: float = Field(
        0.0, description="fill value, in normalised units, in which the mean pixel is 0"
    )


def build(options: CropOptions) -> AugmentationFunction:
    def crop(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        n, channels, height, width = batch.shape
        device, shifts = batch.device, 2 * options.padding + 1
        padded = _pad(batch, options)
        # One draw for both directions, so that those of an image are adjacent in the random stream.
        corner = torch.randint(shifts, (n, 2), generator=generator, device=device)
        rows = corner[:, :1] + torch.arange(height, device=device)
        columns = corner[:, 1:] + torch.arange(width, device=device)
        return padded[
            torch.arange(n, device=device).view(-1, 1, 1, 1),
            torch.arange(channels, device=device).view(1, -1, 1, 1),
            rows.view(n, 1, height, 1),
            columns.view(n, 1, 1, width),
        ]

    return crop


def _pad(batch: Tensor, options: CropOptions) -> Tensor:
    from torch.nn import functional

    sides = [options.padding] * 4
    if options.mode == "constant":
        return functional.pad(batch, sides, value=options.fill)
    return functional.pad(batch, sides, mode=options.mode)


COMPONENTS = (
    Augmentation(
        name="crop",
        description="pad, then crop an image of the old size at a random position",
        reference="He, Zhang, Ren and Sun, CVPR (2016), section 4.2",
        options=CropOptions,
        tiny=({"padding": 1}, {"mode": "constant"}, {"padding": 1, "mode": "reflect"}),
        build=build,
    ),
)
