"""Random horizontal flip."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from harness.components.base import Augmentation, AugmentationFunction, Options

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class FlipOptions(Options):
    p: float = Field(0.5, ge=0, le=1, description="probability for each image")


def build(options: FlipOptions) -> AugmentationFunction:
    def flip(batch: Tensor, generator: torch.Generator) -> Tensor:
        import torch

        drawn = torch.rand(len(batch), generator=generator, device=batch.device)
        return torch.where((drawn < options.p).view(-1, 1, 1, 1), batch.flip(-1), batch)

    return flip


COMPONENTS = (
    Augmentation(
        name="flip",
        description="flip horizontally",
        reference="Krizhevsky, Sutskever and Hinton, NIPS (2012)",
        options=FlipOptions,
        tiny=({}, {"p": 1.0}),
        build=build,
    ),
)
