"""One stack's examples: trials whose splits differ by seed share what they can, and gather the rest
by index."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from harness.components.base import ImageTransform
from harness.core.seeding import generator
from harness.experiment.trial import Trial
from harness.training.batch_sources import BatchSource, InMemorySource, SubsetSource
from harness.training.data import Splits, load_splits
from harness.training.stacked.modules.forward_pass import SharedInputs, Unstackable

Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class StackedSplit:
    """One split, of all the trials of a stack.

    inputs [M, …], targets [M] or [M, T]: of all seeds, on the device. prepare: what a batch of
    inputs still wants. rows: int64 [V, N], the examples of each of V versions of the split; None
    where there is one version, of all M. version: which one each seed has.
    """

    inputs: Tensor
    targets: Tensor
    prepare: ImageTransform | None
    rows: Tensor | None
    version: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.targets) if self.rows is None else self.rows.shape[1]

    def at(self, index: Tensor) -> Batch:
        """Inputs [K, B, …] and targets [K, B, …] at places [K, B] of the pool."""
        flat = index.flatten()
        inputs = self.inputs.index_select(0, flat)
        if self.prepare is not None:
            inputs = self.prepare(inputs)
        targets = self.targets.index_select(0, flat)
        return (
            inputs.view(*index.shape, *inputs.shape[1:]),
            targets.view(*index.shape, *targets.shape[1:]),
        )

    def shuffled(self, seeds: Sequence[int], epoch: int) -> Tensor:
        """Each seed's order in an epoch as places of the pool: int64 [seeds, N].

        The very order that a trial of that seed has when it trains alone.
        """
        n = len(self)
        drawn = [torch.randperm(n, generator=generator(seed, "order", epoch)) for seed in seeds]
        orders = torch.stack(drawn).to(self.inputs.device)
        if self.rows is None:
            return orders
        return torch.stack([self.rows[one] for one in self.version]).gather(1, orders)

    def sharing(self, owner: Tensor) -> SharedInputs:
        """Which version of the split, as stored, each row has. owner: int64 [K], its seed."""
        versions = torch.tensor(self.version, device=owner.device)
        return SharedInputs.of(versions[owner], 1 if self.rows is None else len(self.rows))

    def in_order(self, size: int) -> Iterator[Batch]:
        """Each version's examples as stored, [V, B, …]."""
        if self.rows is None:
            rows = torch.arange(len(self), device=self.inputs.device).unsqueeze(0)
        else:
            rows = self.rows
        for chosen in rows.split(size, dim=1):
            yield self.at(chosen)


@dataclass(frozen=True, slots=True)
class StackedSplits:
    """The splits of a stack. val is None where nothing is held out.

    seeds: splits of each seed that hold its description and its test examples as stored.
    """

    train: StackedSplit
    val: StackedSplit | None
    test: StackedSplit
    seeds: tuple[Splits, ...]

    def evaluated(self) -> dict[str, StackedSplit]:
        return {"test": self.test} if self.val is None else {"val": self.val, "test": self.test}


def load_stacked_splits(
    trial: Trial, seeds: Sequence[int], data_root: Path, device: torch.device
) -> StackedSplits:
    """The splits of a trial's data set for each of some seeds.

    Raises Unstackable where they do not lie on the device or differ in size, and what
    `training.data.splits` raises.
    """
    found = [load_splits(replace(trial, seed=seed), data_root, device) for seed in seeds]
    val = [one.val for one in found if one.val is not None]
    return StackedSplits(
        _joined([one.train for one in found]),
        _joined(val) if val else None,
        _joined([one.test for one in found]),
        tuple(found),
    )


def _joined(sources: Sequence[BatchSource]) -> StackedSplit:
    """One split of several seeds: places in the examples that they share, or each one's examples
    behind one another."""
    parts = [one for one in sources if isinstance(one, SubsetSource)]
    if parts:
        whole = _resident(parts[0].whole)
        rows = torch.stack([one.rows for one in parts]).to(whole.device)
        return StackedSplit(
            whole.inputs, whole.targets, whole.prepare, rows, tuple(range(len(parts)))
        )
    distinct = list({id(source): _resident(source) for source in sources}.values())
    version = tuple(next(i for i, one in enumerate(distinct) if one is s) for s in sources)
    first = distinct[0]
    if len(distinct) == 1:
        return StackedSplit(first.inputs, first.targets, first.prepare, None, version)
    sizes = {len(one) for one in distinct}
    if len(sizes) > 1:
        raise Unstackable(f"its seeds' splits differ in size: {sorted(sizes)}")
    inputs = torch.cat([one.inputs for one in distinct])
    targets = torch.cat([one.targets for one in distinct])
    rows = torch.arange(len(inputs), device=inputs.device).view(len(distinct), -1)
    return StackedSplit(inputs, targets, first.prepare, rows, version)


def _resident(source: BatchSource) -> InMemorySource:
    if not isinstance(source, InMemorySource):
        raise Unstackable("its data is read from disk, batch by batch")
    if source.inputs.device != source.device:
        raise Unstackable(f"its data does not fit on {source.device}")
    return source
