"""What a stack draws in one epoch: dropout's masks, and changes of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from harness.components.base import AugmentFunction
from harness.core.seeding import generator
from harness.training.build import augmented
from harness.training.stacked.dropout import EpochMasks


class EpochStreams:
    """masks: dropout's, of this epoch.

    seeds: the distinct ones. owner: int64 [K], each trial's place among them. like: a tensor of the
    parameters' precision, on their device. augment: in their order.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        owner: Tensor,
        epoch: int,
        like: Tensor,
        augment: Sequence[AugmentFunction],
    ) -> None:
        self.masks = EpochMasks(seeds, owner, epoch, like.dtype)
        self._augment = augment
        self._chances = [
            generator(seed, "augmentation", epoch, device=str(like.device))
            for seed in (seeds if augment else ())
        ]

    def augmented(self, inputs: Tensor) -> Tensor:
        """Each seed's batch [seeds, B, …] after the augmentations: what it is alone, to the last
        bit, as one stream after another is drawn from."""
        if not self._augment:
            return inputs
        pairs = zip(inputs, self._chances, strict=True)
        return torch.stack([augmented(self._augment, batch, chance) for batch, chance in pairs])

    def state(self) -> dict[str, Any]:
        """What `load` needs inside the epoch."""
        chances = [chance.get_state() for chance in self._chances]
        return {"masks": self.masks.state(), "augmentation": chances}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where the streams of this epoch were. Raises RuntimeError for another device's."""
        self.masks.load(state["masks"])
        for chance, where in zip(self._chances, state["augmentation"], strict=True):
            chance.set_state(where)
