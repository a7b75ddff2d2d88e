"""Gaussian noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class NoiseOptions(Options):
    std: float = Field(0.1, gt=0, description="standard deviation, in normalised units")


def build(options: NoiseOptions) -> AugmentationFunction:
    def noise(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.randn(
            batch.shape, generator=generator, device=batch.device, dtype=batch.dtype
        )
        return batch + options.std * drawn

    return noise


COMPONENTS = (
    Augmentation(
        name="noise",
        description="add Gaussian noise to each pixel",
        reference="Bishop, Neural Computation 7 (1995)",
        options=NoiseOptions,
        tiny=({}, {"std": 1.0}),
        build=build,
    ),
)
