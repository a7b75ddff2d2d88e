"""Random changes of an image's geometry: flip, crop and rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FILL: Final = "fill value, in normalised units, in which the mean pixel is 0"


class FlipOptions(Options):
    p: float = Field(0.5, ge=0, le=1, description="probability for each image")


def build_flip(options: FlipOptions) -> AugmentationFunction:
    def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.rand(len(batch), generator=generator, device=batch.device)
        return torch.where((drawn < options.p).view(-1, 1, 1, 1), batch.flip(-1), batch)

    return flip


class CropOptions(Options):
    padding: int = Field(4, ge=1, description="pixels added on each side; the largest shift")
    mode: Literal["replicate", "reflect", "constant"] = Field(
        "replicate", description="added pixels: the edge, its reflection, or `fill`"
    )
    fill: float = Field(0.0, description=FILL)


def build_crop(options: CropOptions) -> AugmentationFunction:
    def crop(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch
        from torch.nn import functional

        n, channels, height, width = batch.shape
        device, shifts = batch.device, 2 * options.padding + 1
        fill = options.fill if options.mode == "constant" else None
        padded = functional.pad(batch, [options.padding] * 4, mode=options.mode, value=fill)
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


class RotateOptions(Options):
    degrees: float = Field(15.0, gt=0, le=180, description="largest angle in either direction")
    mode: Literal["replicate", "constant"] = Field(
        "replicate", description="pixels from outside the image: its edge, or `fill`"
    )
    fill: float = Field(0.0, description=FILL)


def build_rotate(options: RotateOptions) -> AugmentationFunction:
    def rotate(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.rand(len(batch), generator=generator, device=batch.device)
        angles = torch.deg2rad((2 * drawn - 1) * options.degrees)
        return rotated(batch, angles, options.fill if options.mode == "constant" else None)

    return rotate


def rotated(batch: Tensor, angles: Tensor, fill: float | None) -> Tensor:
    """Returns images [B, C, H, W] rotated about their centre, with bilinear interpolation.

    angles: [B], in radians, counterclockwise.
    fill: the value outside the image; None repeats its edge.
    """
    import torch
    from torch.nn import functional

    # Rows and columns both run from −1 to 1 here, but the rotation is one in pixels.
    aspect = batch.shape[-2] / batch.shape[-1]
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    theta = torch.stack([cos, -sin * aspect, zero, sin / aspect, cos, zero], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(theta, list(batch.shape), align_corners=False)
    if fill is None:
        return functional.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    # Sampling pads with 0, so the fill value is subtracted before and added afterwards.
    return functional.grid_sample(batch - fill, grid, align_corners=False) + fill


COMPONENTS = (
    Augmentation(
        name="flip",
        description="flip horizontally",
        reference="Krizhevsky, Sutskever and Hinton, NIPS (2012)",
        options=FlipOptions,
        tiny=({}, {"p": 1.0}),
        build=build_flip,
    ),
    Augmentation(
        name="crop",
        description="pad, then crop an image of the old size at a random position",
        reference="He, Zhang, Ren and Sun, CVPR (2016), section 4.2",
        options=CropOptions,
        tiny=({"padding": 1}, {"mode": "constant"}, {"padding": 1, "mode": "reflect"}),
        build=build_crop,
    ),
    Augmentation(
        name="rotate",
        description="rotate about the centre",
        reference="Jaderberg et al., Spatial Transformer Networks, NIPS (2015)",
        options=RotateOptions,
        tiny=({}, {"degrees": 90.0, "mode": "constant"}),
        build=build_rotate,
    ),
)
