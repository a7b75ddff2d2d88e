"""Where batches come from: examples resident on the device, or streamed from disk in like order."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.components.base import ImageTransform, LazyInputs

PREPARE_ONCE_BYTES = 1 << 30
"""Images are prepared once, before training, where the result is no larger than this; else a batch
at a time. The values are the same."""
PREPARED_BYTES_AT_ONCE = 1 << 21
"""So many fit into a processor's cache."""

Batch = tuple[Tensor, Tensor]


class BatchSource(Protocol):
    """A split's examples on a device."""

    @property
    def targets(self) -> Tensor: ...

    def __len__(self) -> int: ...

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Prepared inputs [B, …] float32 and targets, `size` at a time, the last one shorter.

        order: int64 on the CPU, a permutation or some of the places; None keeps the stored order.
        """
        ...

    def first(self, n: int) -> Tensor:
        """The first n inputs as stored, on the CPU."""
        ...


@dataclass(frozen=True, slots=True)
class InMemorySource:
    """Examples held on the device; batches are gathered by index."""

    inputs: Tensor
    targets: Tensor
    stored: Tensor
    prepare: ImageTransform | None
    device: torch.device

    @classmethod
    def of(
        cls, inputs: Tensor, targets: Tensor, prepare: ImageTransform | None, device: torch.device
    ) -> InMemorySource:
        """Moves examples to `device`; inputs and targets stay on the CPU where they do not fit."""
        home = device if _fits(inputs, device) else torch.device("cpu")
        moved = inputs.to(home)
        if prepare is not None and _prepared_bytes(moved, prepare) <= PREPARE_ONCE_BYTES:
            return cls(_prepared(moved, prepare), targets.to(home), inputs, None, device)
        return cls(moved, targets.to(home), inputs, prepare, device)

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        if order is None:
            pairs: Iterator[Batch] = zip(
                self.inputs.split(size), self.targets.split(size), strict=True
            )
        else:
            indices = order.to(self.inputs.device).split(size)
            pairs = ((self.inputs[chosen], self.targets[chosen]) for chosen in indices)
        for inputs, targets in pairs:
            moved = inputs.to(self.device)
            ready = self.prepare(moved) if self.prepare is not None else moved
            yield ready, targets.to(self.device)

    def first(self, n: int) -> Tensor:
        return self.stored[:n].clone()


@dataclass(frozen=True, slots=True)
class SubsetSource:
    """Some of a resident split's examples, which are held once for all parts.

    rows: int64 [N], their places in the whole; on the CPU.
    """

    whole: InMemorySource
    rows: Tensor
    targets: Tensor

    @classmethod
    def of(cls, whole: InMemorySource, rows: Tensor) -> SubsetSource:
        return cls(whole, rows, whole.targets[rows.to(whole.targets.device)])

    def __len__(self) -> int:
        return len(self.rows)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        return self.whole.batches(size, self.rows if order is None else self.rows[order])

    def first(self, n: int) -> Tensor:
        return self.whole.stored[self.rows[:n]]


@dataclass(frozen=True, slots=True)
class StreamingSource:
    """Examples read from disk by a DataLoader, in the very order resident ones would come."""

    inputs: LazyInputs
    targets: Tensor
    prepare: ImageTransform | None
    device: torch.device

    def __len__(self) -> int:
        return len(self.targets)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        from torch.utils.data import DataLoader

        indices = torch.arange(len(self)) if order is None else order
        loader: DataLoader[Tensor] = DataLoader(
            self.inputs,  # type: ignore[arg-type]
            batch_size=size,
            sampler=indices.tolist(),
            num_workers=_loader_workers(),
            pin_memory=self.device.type == "cuda",
            # The loader's own generator, so that it draws nothing from the global one.
            generator=torch.Generator(),
        )
        for inputs, chosen in zip(loader, indices.split(size), strict=True):
            moved = inputs.to(self.device, non_blocking=True)
            ready = self.prepare(moved) if self.prepare is not None else moved
            yield ready, self.targets[chosen].to(self.device)

    def first(self, n: int) -> Tensor:
        return torch.stack([self.inputs[i] for i in range(min(n, len(self)))])


def _fits(inputs: Tensor, device: torch.device) -> bool:
    """Whether the examples take at most half of the memory the device has free."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return inputs.nbytes * 2 <= free


def _prepared(inputs: Tensor, prepare: ImageTransform) -> Tensor:
    """All of the images, made ready a few at a time."""
    first = prepare(inputs[:1])
    ready = first.new_empty((len(inputs), *first.shape[1:]))
    at_once = max(1, PREPARED_BYTES_AT_ONCE // max(1, first.nbytes))
    for stored, place in zip(inputs.split(at_once), ready.split(at_once), strict=True):
        place.copy_(prepare(stored))
    return ready


def _prepared_bytes(inputs: Tensor, prepare: ImageTransform) -> int:
    channels = prepare.channels or inputs.shape[1]
    height, width = prepare.size or inputs.shape[-2:]
    return len(inputs) * channels * height * width * 4


def _loader_workers() -> int:
    """Processes to read with; none inside a daemonic worker, which may not have children."""
    if multiprocessing.current_process().daemon:
        return 0
    return min(4, (os.cpu_count() or 1) - 1)
