"""Dropout's masks: one stream for each (seed, epoch, layer), whatever else is in the stack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from harness.core.seeding import generator

DRAWN_AT_ONCE = 1 << 15
"""Numbers that one trial's layer draws at a time: fewer calls than one a batch. A constant, since
what a generator gives depends on how much is asked of it at a time."""


@dataclass(slots=True)
class _Block:
    """Masks of one layer for some batches: [seeds, batches, *shape]; `used` of them are spent."""

    masks: Tensor
    used: int = 0


class EpochMasks:
    """The masks of one epoch.

    Trials of one seed share theirs, as they do one by one. They are not the numbers that a trial
    draws when it trains alone, which come from one stream for all layers.

    seeds: the distinct ones. owner: int64 [K], each trial's place among them.
    """

    def __init__(self, seeds: Sequence[int], owner: Tensor, epoch: int, dtype: torch.dtype) -> None:
        self._seeds = seeds
        self._owner = owner
        self._apart = owner.tolist() == list(range(len(seeds)))
        self._epoch = epoch
        self._dtype = dtype
        self._streams: dict[int | str, list[torch.Generator]] = {}
        self._full: dict[int | str, tuple[int, ...]] = {}
        self._blocks: dict[int | str, _Block] = {}

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        """[K, *shape] of 0 and 1 / (1 − p); an epoch's last batch may be shorter than the first."""
        full = self._full.setdefault(layer, tuple(shape))
        block = self._blocks.get(layer)
        if block is None or block.used == block.masks.shape[1]:
            block = self._blocks[layer] = _Block(self._draw(layer, full, p))
        drawn = block.masks[:, block.used][(slice(None), *(slice(size) for size in shape))]
        block.used += 1
        return drawn if self._apart else drawn.index_select(0, self._owner)

    def state(self) -> dict[str, Any]:
        """What `load` needs inside the epoch."""
        return {
            "streams": {
                layer: [stream.get_state() for stream in streams]
                for layer, streams in self._streams.items()
            },
            "shapes": dict(self._full),
            "blocks": {layer: (block.masks, block.used) for layer, block in self._blocks.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on where the masks of this epoch were. Raises RuntimeError for another device's."""
        device = self._owner.device
        for layer, streams in state["streams"].items():
            for stream, where in zip(self._streams_of(layer), streams, strict=True):
                stream.set_state(where)
        self._full = {layer: tuple(shape) for layer, shape in state["shapes"].items()}
        self._blocks = {
            layer: _Block(masks.to(device), used)
            for layer, (masks, used) in state["blocks"].items()
        }

    def _streams_of(self, layer: int | str) -> list[torch.Generator]:
        """Each seed's, as they are; from their beginning where the layer has drawn nothing yet."""
        if layer not in self._streams:
            device = str(self._owner.device)
            self._streams[layer] = [
                generator(seed, "dropout", self._epoch, layer, device=device)
                for seed in self._seeds
            ]
        return self._streams[layer]

    def _draw(self, layer: int | str, shape: tuple[int, ...], p: float) -> Tensor:
        streams = self._streams_of(layer)
        batches = max(1, DRAWN_AT_ONCE // prod(shape))
        size = (len(streams), batches, *shape)
        masks = torch.empty(size, dtype=self._dtype, device=self._owner.device)
        for mask, stream in zip(masks, streams, strict=True):
            mask.bernoulli_(1 - p, generator=stream)
        return masks.div_(1 - p) if p < 1 else masks
