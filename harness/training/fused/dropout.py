"""Dropout's masks: one stream for each (seed, epoch, layer), whatever else is in the stack."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor

from harness.seeding import generator

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
        self._shared = len(seeds) < len(owner)
        self._epoch = epoch
        self._dtype = dtype
        self._streams: dict[int, list[torch.Generator]] = {}
        self._full: dict[int, tuple[int, ...]] = {}
        self._blocks: dict[int, _Block] = {}

    def next(self, layer: int, shape: Sequence[int], p: float) -> Tensor:
        """[K, *shape] of 0 and 1 / (1 − p); an epoch's last batch may be shorter than the first."""
        full = self._full.setdefault(layer, tuple(shape))
        block = self._blocks.get(layer)
        if block is None or block.used == block.masks.shape[1]:
            block = self._blocks[layer] = _Block(self._draw(layer, full, p))
        drawn = block.masks[:, block.used, : shape[0]]
        block.used += 1
        return drawn.index_select(0, self._owner) if self._shared else drawn

    def _draw(self, layer: int, shape: tuple[int, ...], p: float) -> Tensor:
        device = self._owner.device
        streams = self._streams.get(layer)
        if streams is None:
            streams = self._streams[layer] = [
                generator(seed, "dropout", self._epoch, layer, device=str(device))
                for seed in self._seeds
            ]
        batches = max(1, DRAWN_AT_ONCE // prod(shape))
        masks = torch.empty((len(streams), batches, *shape), dtype=self._dtype, device=device)
        for mask, stream in zip(masks, streams, strict=True):
            mask.bernoulli_(1 - p, generator=stream)
        return masks.div_(1 - p)
