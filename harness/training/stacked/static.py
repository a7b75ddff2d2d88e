"""An update of a stack without arguments: all that it reads and writes stays where it is in memory,
so that what it does on a device can be recorded once and done again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.training.stacked.passes import Masks
from harness.training.stacked.stack import Stack
from harness.training.stacked.updates import Numbered, Numbers

Scores = tuple[Tensor, Tensor, Tensor]
"""Logits [K, B, O], losses [K, B] and targets [K, B, …] of one batch."""


@dataclass(frozen=True, slots=True)
class _Request:
    layer: int | str
    shape: tuple[int, ...]
    p: float


class HeardMasks:
    """Masks from elsewhere; remembers which were asked for."""

    def __init__(self, source: Masks) -> None:
        self._source = source
        self.requests: list[_Request] = []
        self.made: list[Tensor] = []

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        mask = self._source.next(layer, shape, p)
        self.requests.append(_Request(layer, tuple(shape), p))
        self.made.append(mask)
        return mask


class StaticMasks:
    """One batch's masks, in tensors that stay; every batch asks for those that the first did."""

    def __init__(self, heard: HeardMasks) -> None:
        self._requests = heard.requests
        self._held = [mask.clone() for mask in heard.made]
        self._used = 0

    def fill(self, source: Masks) -> None:
        """Put the next batch's masks in."""
        for request, held in zip(self._requests, self._held, strict=True):
            held.copy_(source.next(request.layer, request.shape, request.p))
        self.rewind()

    def rewind(self) -> None:
        """Begin to hand out the same batch's masks again."""
        self._used = 0

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        wanted = self._requests[self._used] if self._used < len(self._requests) else None
        if wanted != _Request(layer, tuple(shape), p):
            raise RuntimeError("its batches ask for different dropout masks")
        self._used += 1
        return self._held[self._used - 1]


class StaticStep:
    """The update of a stack by its next whole batch.

    It counts the batches itself, on the device. What an epoch reads is put in by `begin`; what a
    batch scored is `scores_of` it, until the next epoch begins.

    first: what the first batch scored. masks: those that it asked for. places, numbers: of the
    epoch, as `begin` has them.
    """

    def __init__(
        self, stack: Stack, first: Scores, masks: HeardMasks, places: Tensor, numbers: Numbered
    ) -> None:
        self._stack = stack
        self._size = first[1].shape[1]
        self._values = stack.network.values
        self.masks = StaticMasks(masks)
        n = places.shape[1]
        self._places = torch.empty_like(places)
        # Tables that hold one learning rate for all batches are views of it; these are not.
        self._tables = [table.new_empty(table.shape) for table in numbers.of_slices]
        self._scores = [one.new_empty((len(one), n, *one.shape[2:])) for one in first]
        self._batch = places.new_zeros(1)
        self._columns = places.new_zeros(self._size)

    @property
    def is_current(self) -> bool:
        """Whether the stack's rows still lie where they lay when it was made."""
        return self._values is self._stack.network.values

    def begin(self, places: Tensor, numbers: Numbered, batch: int) -> None:
        """Take an epoch's order [S, N] and numbers, and go on from one of its batches (from 0)."""
        self._places.copy_(places)
        for table, made in zip(self._tables, numbers.of_slices, strict=True):
            table.copy_(made)
        self._batch.fill_(batch)
        start = batch * self._size
        torch.arange(start, start + self._size, out=self._columns)

    def run(self) -> None:
        """The next batch's update, by the masks that are in place."""
        places = self._places.index_select(1, self._columns)
        numbers = Numbers(tuple(one.index_select(0, self._batch)[0] for one in self._tables), ())
        self.masks.rewind()
        scored = self._stack.step(places, numbers, self.masks)
        for held, made in zip(self._scores, scored, strict=True):
            held.index_copy_(1, self._columns, made)
        self._batch += 1
        self._columns += self._size

    def scores_of(self, batch: int) -> Scores:
        """Views of what a batch scored."""
        start = batch * self._size
        outputs, losses, targets = (one[:, start : start + self._size] for one in self._scores)
        return outputs, losses, targets

    def living(self) -> list[Tensor]:
        """What a batch leaves behind for the next one."""
        return [*self._stack.living(), self._batch, self._columns]
