"""Inputs that several rows of a stack share: trials of one seed see the same batches.

Of R trials with the same inputs, R narrow products are one wide one, and the inputs are gathered
once. On a CPU that takes less than half of the time for MNIST's first layer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.core.errors import HarnessError

MIN_SHARED_FEATURES = 128
"""Numbers in an example from which one wide product, with the copies around it, takes less time
than narrow ones."""


@dataclass(frozen=True, slots=True)
class SharedInputs:
    """Which of S inputs each of K rows has.

    owner: int64 [K]. even: whether each input has as many rows, of two or more; else they make no
    one product. blocks: into how many like parts the rows fall, in each of which those of one input
    lie side by side, input by input; 0 where they do not. order: int64 [K], the rows input by
    input; back: its inverse.
    """

    owner: Tensor
    sources: int
    even: bool
    blocks: int
    order: Tensor
    back: Tensor

    @classmethod
    def of(cls, owner: Tensor, sources: int) -> SharedInputs:
        order = owner.argsort(stable=True)
        counts = owner.bincount(minlength=sources).tolist()
        even = len(set(counts)) == 1 and counts[0] > 1
        blocks = _blocks(owner.tolist(), sources) if even else 0
        return cls(owner, sources, even, blocks, order, order.argsort())

    def spread(self, x: Tensor) -> Tensor:
        """[S, …] → [K, …]"""
        if self.sources == 1:
            return x.expand(len(self.owner), *x.shape[1:])
        return x.index_select(0, self.owner)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """x [S, B, in] by weight [K, out, in] and bias [K, out]: [K, B, out]."""
        if not self.even or x.requires_grad:
            spread, across = self.spread(x), weight.transpose(1, 2)
            if bias is None:
                return torch.bmm(spread, across)
            return torch.baddbmm(bias.unsqueeze(1), spread, across)
        if torch.is_autocast_enabled(x.device.type):
            # Backward is not cast: what it gets is of one type because what it keeps is.
            kind = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(kind), weight.to(kind)
            bias = None if bias is None else bias.to(kind)
        out: Tensor = _Linear.apply(x, weight, bias, self)
        return out

    def together(self, rows: Tensor) -> Tensor:
        """[K, O, A] → [S, R·O, A], the rows of one input one after another."""
        return self._by_input(rows).flatten(1, 3)

    def one_by_one(self, joined: Tensor, out: int) -> Tensor:
        """[S, R·O, A] → [K, O, A]: the inverse."""
        sources, _, a = joined.shape
        return self._by_row(joined.view(sources, self.blocks or 1, -1, out, a))

    def side_by_side(self, rows: Tensor) -> Tensor:
        """[K, A, O] → [S, A, R·O], the rows of one input beside each other."""
        return self._by_input(rows).permute(0, 3, 1, 2, 4).flatten(2)

    def apart(self, wide: Tensor, out: int) -> Tensor:
        """[S, A, R·O] → [K, A, O]: the inverse."""
        sources, a, _ = wide.shape
        return self._by_row(wide.view(sources, a, self.blocks or 1, -1, out).permute(0, 2, 3, 1, 4))

    def _by_input(self, rows: Tensor) -> Tensor:
        """[K, A, O] → [S, blocks, R/blocks, A, O], without a copy where the rows fall in blocks."""
        if not self.blocks:
            rows = rows.index_select(0, self.order)
            return rows.view(self.sources, 1, -1, *rows.shape[1:])
        return rows.view(self.blocks, self.sources, -1, *rows.shape[1:]).transpose(0, 1)

    def _by_row(self, parts: Tensor) -> Tensor:
        """[S, blocks, R/blocks, A, O] → [K, A, O]: the inverse."""
        if not self.blocks:
            return parts.flatten(0, 2).index_select(0, self.back)
        return parts.transpose(0, 1).flatten(0, 2)


def _blocks(rows: list[int], sources: int) -> int:
    """0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2 are 2 blocks of 3 inputs."""
    width = next((i for i, row in enumerate(rows) if row != rows[0]), len(rows))
    block = [source for source in range(sources) for _ in range(width)]
    count, left = divmod(len(rows), len(block))
    return count if not left and rows == block * count else 0


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, sharing: SharedInputs
    ) -> Tensor:
        context.save_for_backward(x)
        context.sharing, context.biased = sharing, bias is not None
        wide = torch.bmm(x, sharing.together(weight).transpose(1, 2))
        out = sharing.apart(wide, weight.shape[1])
        return out if bias is None else out.add_(bias.unsqueeze(1))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (x,) = context.saved_tensors
        sharing: SharedInputs = context.sharing
        joined = torch.bmm(sharing.side_by_side(gradient).transpose(1, 2), x)
        weight = sharing.one_by_one(joined, gradient.shape[2])
        return None, weight, gradient.sum(1) if context.biased else None, None


class Unstackable(HarnessError):
    """This model cannot be trained as a stack; the message says why, and its trials train one by
    one."""


class DropoutMasks(Protocol):
    """Where dropout's masks come from."""

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        """[K, *shape] of 0 and 1 / (1 − p). shape: of one trial's batch, the examples first."""
        ...


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """What a forward pass needs beside the inputs.

    parameters, buffers: stacked, by the model's names for them. training: whether batches are
    normalised by their own statistics. masks: of dropout; None leaves it out, as in evaluation.
    sharing: which inputs each row has.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    training: bool
    masks: DropoutMasks | None
    sharing: SharedInputs


Function = Callable[[Tensor, ForwardPass], Tensor]
"""[K, B, …] → [K, B, …]."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack.

    bare: whether it has nothing of each trial's own, so that it serves shared inputs [S, B, …] as
    well. takes_shared: whether it takes shared inputs to [K, B, …] by itself. rehearsed: whether a
    pass in training mode is compared with the model's own before it is trusted.
    """

    run: Function
    bare: bool = False
    takes_shared: bool = False
    rehearsed: bool = False
