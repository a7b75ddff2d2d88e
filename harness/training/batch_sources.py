"""Sources of batches: examples in memory, a subset of them, or examples streamed from disk."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from harness.components.base import ImageTransform, LazyInputs

PREPARE_ONCE_BYTES = 1 << 30
"""Images are prepared once, before training, if the result is no larger than this; otherwise batch
by batch. The values are the same."""
PREPARED_BYTES_AT_ONCE = 1 << 21
"""Images are prepared in chunks of this size, which fit into a processor's cache."""

Batch = tuple[Tensor, Tensor]


class BatchSource(Protocol):
    """The examples of one split on a device.

    targets: None for an autoencoder: those of a batch are its prepared inputs.
    """

    @property
    def targets(self) -> Tensor | None: ...

    def __len__(self) -> int: ...

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        """Yields prepared inputs [B, …] float32 and targets; the last batch may be shorter.

        order: int64 on the CPU, a permutation of the examples or some of them; None keeps the
        stored order.
        """
        ...

    def first(self, n: int) -> Tensor:
        """Returns the first n inputs as stored, on the CPU."""
        ...


@dataclass(frozen=True, slots=True)
class InMemorySource:
    """Examples in the device's memory; batches are gathered by index.

    stored: the inputs as the data set stores them. prepare: applied to each batch; None if all
    inputs are already prepared.
    """

    inputs: Tensor
    targets: Tensor | None
    stored: Tensor
    prepare: ImageTransform | None
    device: torch.device

    @classmethod
    def of(
        cls,
        inputs: Tensor,
        targets: Tensor | None,
        prepare: ImageTransform | None,
        device: torch.device,
    ) -> InMemorySource:
        """Moves examples to `device`; they stay on the CPU if they take more than half of the
        device's free memory."""
        home = device
        if device.type == "cuda" and inputs.nbytes * 2 > torch.cuda.mem_get_info(device)[0]:
            home = torch.device("cpu")
        moved = inputs.to(home)
        if prepare is not None and _prepared_bytes(moved, prepare) <= PREPARE_ONCE_BYTES:
            moved, prepare = _prepare_all(moved, prepare), None
        return cls(moved, None if targets is None else targets.to(home), inputs, prepare, device)

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        chosen: Sequence[slice | Tensor]
        if order is None:
            chosen = [slice(start, start + size) for start in range(0, len(self), size)]
        else:
            chosen = order.to(self.inputs.device).split(size)
        for indices in chosen:
            moved = self.inputs[indices].to(self.device)
            ready = self.prepare(moved) if self.prepare is not None else moved
            if self.targets is None:
                yield ready, reconstructed(ready)
            else:
                yield ready, self.targets[indices].to(self.device)

    def first(self, n: int) -> Tensor:
        return self.stored[:n].clone()


@dataclass(frozen=True, slots=True)
class SubsetSource:
    """Some examples of another source, which holds them once for all its subsets.

    indices: int64 [N], into `source`; on the CPU.
    """

    source: InMemorySource
    indices: Tensor
    targets: Tensor | None

    @classmethod
    def of(cls, source: InMemorySource, indices: Tensor) -> SubsetSource:
        targets = source.targets
        chosen = None if targets is None else targets[indices.to(targets.device)]
        return cls(source, indices, chosen)

    def __len__(self) -> int:
        return len(self.indices)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        return self.source.batches(size, self.indices if order is None else self.indices[order])

    def first(self, n: int) -> Tensor:
        return self.source.stored[self.indices[:n]]


@dataclass(frozen=True, slots=True)
class StreamingSource:
    """Examples that a DataLoader reads from disk, in the same order as from memory."""

    inputs: LazyInputs
    targets: Tensor | None
    prepare: ImageTransform | None
    device: torch.device

    def __len__(self) -> int:
        return len(self.inputs)

    def batches(self, size: int, order: Tensor | None = None) -> Iterator[Batch]:
        from torch.utils.data import DataLoader

        indices = torch.arange(len(self)) if order is None else order
        loader: DataLoader[Tensor] = DataLoader(
            self.inputs,  # type: ignore[arg-type]
            batch_size=size,
            sampler=indices.tolist(),
            num_workers=_loader_workers(),
            pin_memory=self.device.type == "cuda",
            # With its own generator, the loader does not draw from the global one.
            generator=torch.Generator(),
        )
        for inputs, chosen in zip(loader, indices.split(size), strict=True):
            moved = inputs.to(self.device, non_blocking=True)
            ready = self.prepare(moved) if self.prepare is not None else moved
            if self.targets is None:
                yield ready, reconstructed(ready)
            else:
                yield ready, self.targets[chosen].to(self.device)

    def first(self, n: int) -> Tensor:
        return torch.stack([self.inputs[i] for i in range(min(n, len(self)))])


def reconstructed(inputs: Tensor) -> Tensor:
    """Returns an autoencoder's targets [B, features] of its prepared inputs: a copy, as an
    augmentation may change the inputs in place."""
    return inputs.flatten(1).clone()


def _prepare_all(inputs: Tensor, prepare: ImageTransform) -> Tensor:
    """Prepares all images, a chunk at a time."""
    first = prepare(inputs[:1])
    prepared = first.new_empty((len(inputs), *first.shape[1:]))
    size = max(1, PREPARED_BYTES_AT_ONCE // max(1, first.nbytes))
    for chunk, target in zip(inputs.split(size), prepared.split(size), strict=True):
        target.copy_(prepare(chunk))
    return prepared


def _prepared_bytes(inputs: Tensor, prepare: ImageTransform) -> int:
    channels = prepare.channels or inputs.shape[1]
    height, width = prepare.size or inputs.shape[-2:]
    return len(inputs) * channels * height * width * 4


def _loader_workers() -> int:
    """The number of processes that read; 0 in a daemonic worker, which may not have children."""
    if multiprocessing.current_process().daemon:
        return 0
    return min(4, (os.cpu_count() or 1) - 1)
