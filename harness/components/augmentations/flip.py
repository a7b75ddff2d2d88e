"""Horizontal flip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class FlipOptions(Options):
    p: float = Field(0.5, ge=0, le=1, description="chance of each image to be flipped")


def build(options: FlipOptions) -> AugmentationFunction:
    def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        chance = torch.rand(len(batch), generator=generator, device=batch.device)
        return torch.where((chance < options.p).view(-1, 1, 1, 1), batch.flip(-1), batch)

    return flip


COMPONENTS = (
    Augmentation(
        name="flip",
        description="mirror left and right",
        reference="Krizhevsky, Sutskever and Hinton, NIPS (2012)",
        options=FlipOptions,
        tiny=({}, {"p": 1.0}),
        build=build,
    ),
)
