"""Random rotation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class RotateOptions(Options):
    degrees: float = Field(15.0, gt=0, le=180, description="largest angle in either direction")
    mode: Literal["replicate", "constant"] = Field(
        "replicate", description="pixels from outside the image: its edge, or `fill`"
    )
    fill: float = Field(
        0.0, description="fill value, in normalised units, in which the mean pixel is 0"
    )


def build(options: RotateOptions) -> AugmentationFunction:
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
        name="rotate",
        description="rotate about the centre",
        reference="Jaderberg et al., Spatial Transformer Networks, NIPS (2015)",
        options=RotateOptions,
        tiny=({}, {"degrees": 90.0, "mode": "constant"}),
        build=build,
    ),
)
