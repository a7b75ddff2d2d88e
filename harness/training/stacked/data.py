"""The examples of a stack: seeds share them where they can, and batches are gathered by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.components.base import ImageTransform
from harness.core.seeding import generator
from harness.experiment.trial import Trial
from harness.training.batch_sources import (
    Batch,
    BatchSource,
    InMemorySource,
    SubsetSource,
    reconstructed,
)
from harness.training.data import Splits, load_splits
from harness.training.stacked.modules.forward_pass import SharedInputs, Unstackable


@dataclass(frozen=True, slots=True)
class StackedSplit:
    """One split of all trials of a stack.

    inputs [M, …], targets [M] or [M, T]: the examples of all seeds, on the device; targets are None
    for an autoencoder. prepare: applied to each batch of inputs. indices: int64 [V, N], the
    examples of each of V versions of the split; None if there is one version, with all examples.
    versions: the version of each seed.
    """

    inputs: Tensor
    targets: Tensor | None
    prepare: ImageTransform | None
    indices: Tensor | None
    versions: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.inputs) if self.indices is None else self.indices.shape[1]

    def gather(self, indices: Tensor) -> Batch:
        """Returns inputs [S, B, …] and targets [S, B, …] of examples [S, B]."""
        flat = indices.flatten()
        inputs = self.inputs.index_select(0, flat)
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        if self.targets is None:
            targets = reconstructed(inputs)
        else:
            targets = self.targets.index_select(0, flat)
        return (
            inputs.view(*indices.shape, *inputs.shape[1:]),
            targets.view(*indices.shape, *targets.shape[1:]),
        )

    def shuffled(self, seeds: Sequence[int], epoch: int) -> Tensor:
        """Returns the examples in each seed's order of an epoch: int64 [seeds, N].

        It is the order of a trial of that seed that trains alone.
        """
        n = len(self)
        drawn = [torch.randperm(n, generator=generator(seed, "order", epoch)) for seed in seeds]
        orders = torch.stack(drawn).to(self.inputs.device)
        if self.indices is None:
            return orders
        return torch.stack([self.indices[i] for i in self.versions]).gather(1, orders)

    def shared_inputs(self, seed_indices: Tensor) -> SharedInputs:
        """Returns which version of the split each trial has. seed_indices: int64 [K]."""
        versions = torch.tensor(self.versions, device=seed_indices.device)
        return SharedInputs.of(
            versions[seed_indices], 1 if self.indices is None else len(self.indices)
        )

    def in_order(self, size: int) -> Iterator[Batch]:
        """Yields batches [V, B, …] of each version's examples, as stored."""
        if self.indices is None:
            indices = torch.arange(len(self), device=self.inputs.device).unsqueeze(0)
        else:
            indices = self.indices
        for chosen in indices.split(size, dim=1):
            yield self.gather(chosen)


@dataclass(frozen=True, slots=True)
class StackedSplits:
    """The splits of a stack.

    evaluated: the splits that are measured at each evaluation, as of `Splits.evaluated`. by_seed:
    each seed's splits, for their description and their test examples as stored.
    """

    train: StackedSplit
    evaluated: dict[str, StackedSplit]
    by_seed: list[Splits]


def load_stacked_splits(
    trial: Trial, seeds: Sequence[int], data_root: Path, device: torch.device, checksum: str = ""
) -> StackedSplits:
    """Returns the splits of a trial's data set for several seeds.

    checksum: as for `load_splits`. Raises Unstackable if they are not in the device's memory or
    differ in size, and what `training.data.load_splits` raises.
    """
    by_seed = [
        load_splits(replace(trial, seed=seed), data_root, device, checksum) for seed in seeds
    ]
    train = _join([splits.train for splits in by_seed])
    evaluated = {
        name: _join([splits.evaluated()[name] for splits in by_seed])
        for name in by_seed[0].evaluated()
    }
    return StackedSplits(train, evaluated, by_seed)


def _join(sources: Sequence[BatchSource]) -> StackedSplit:
    """Joins one split of several seeds: indices into shared examples, or concatenated examples."""
    subsets = [source for source in sources if isinstance(source, SubsetSource)]
    if subsets:
        whole = _in_memory(subsets[0].source)
        indices = torch.stack([subset.indices for subset in subsets]).to(whole.device)
        versions = tuple(range(len(subsets)))
        return StackedSplit(whole.inputs, whole.targets, whole.prepare, indices, versions)
    distinct = list({id(source): _in_memory(source) for source in sources}.values())
    versions = tuple(next(i for i, d in enumerate(distinct) if d is source) for source in sources)
    first = distinct[0]
    if len(distinct) == 1:
        return StackedSplit(first.inputs, first.targets, first.prepare, None, versions)
    sizes = {len(source) for source in distinct}
    if len(sizes) > 1:
        raise Unstackable(f"the splits of its seeds differ in size: {sorted(sizes)}")
    inputs = torch.cat([source.inputs for source in distinct])
    known = [source.targets for source in distinct if source.targets is not None]
    targets = torch.cat(known) if known else None
    indices = torch.arange(len(inputs), device=inputs.device).view(len(distinct), -1)
    return StackedSplit(inputs, targets, first.prepare, indices, versions)


def _in_memory(source: BatchSource) -> InMemorySource:
    if not isinstance(source, InMemorySource):
        raise Unstackable("its data is read from disk, batch by batch")
    if source.inputs.device != source.device:
        raise Unstackable(f"its data does not fit on {source.device}")
    return source
