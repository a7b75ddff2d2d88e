"""Random crop of the padded image: a shift by some pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class CropOptions(Options):
    padding: int = Field(4, ge=1, description="pixels added on each side, the longest shift")
    mode: Literal["replicate", "reflect", "constant"] = Field(
        "replicate", description="what they are: the edge, its reflection, or `fill`"
    )
    fill: float = Field(0.0, description="in normalised units, where the mean pixel is 0")


def build(options: CropOptions) -> AugmentationFunction:
    def crop(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        n, channels, height, width = batch.shape
        device, most = batch.device, 2 * options.padding + 1
        padded = _pad(batch, options)
        # Drawn together, so that the two directions of an image lie side by side in the stream.
        corner = torch.randint(most, (n, 2), generator=generator, device=device)
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
        description="pad, then cut out an image of the old size at a random place",
        reference="He, Zhang, Ren and Sun, CVPR (2016), section 4.2",
        options=CropOptions,
        tiny=({"padding": 1}, {"mode": "constant"}, {"padding": 1, "mode": "reflect"}),
        build=build,
    ),
)
