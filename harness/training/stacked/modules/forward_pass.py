"""The forward pass of a stack: its layers, and the inputs that trials share.

Activations are [K, B, …], of K trials and a batch of B examples. Trials of one seed see the same
batches: until a layer has parameters, S shared inputs [S, B, …] are enough. With R trials for each
input, R narrow matrix products become one wide product, which takes less than half of the time for
MNIST's first layer on a CPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from harness.core.errors import HarnessError

MIN_SHARED_FEATURES = 128
"""Features of an example from which one wide product, with the copies around it, takes less time
than narrow products."""


class Unstackable(HarnessError):
    """A model or data that cannot train as a stack; the message says why.

    The trials then train one by one.
    """


class DropoutMasks(Protocol):
    """A source of dropout masks."""

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        """Returns a mask [K, *shape] of 0 and 1 / (1 − p).

        shape: of one trial's batch, the examples first.
        """
        ...


@dataclass(frozen=True, slots=True)
class SharedInputs:
    """Which of S inputs each of K trials has.

    index: int64 [K]. sources: S. even: whether all inputs have the same number R ≥ 2 of trials;
    otherwise their products cannot be joined. blocks: if the trials form equal blocks, each with
    the trials of one input side by side, input by input, the number of blocks; otherwise 0.
    order: int64 [K], the trials sorted by input. inverse: the inverse permutation.
    """

    index: Tensor
    sources: int
    even: bool
    blocks: int
    order: Tensor
    inverse: Tensor

    @classmethod
    def of(cls, index: Tensor, sources: int) -> SharedInputs:
        order = index.argsort(stable=True)
        counts = index.bincount(minlength=sources).tolist()
        even = len(set(counts)) == 1 and counts[0] > 1
        blocks = _count_blocks(index.tolist(), sources) if even else 0
        return cls(index, sources, even, blocks, order, order.argsort())

    def expand(self, x: Tensor) -> Tensor:
        """[S, …] → [K, …]"""
        if self.sources == 1:
            return x.expand(len(self.index), *x.shape[1:])
        return x.index_select(0, self.index)

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiplies x [S, B, in] by weight [K, out, in] and adds bias [K, out]: [K, B, out]."""
        if not self.even or x.requires_grad:
            expanded, transposed = self.expand(x), weight.transpose(1, 2)
            if bias is None:
                return torch.bmm(expanded, transposed)
            return torch.baddbmm(bias.unsqueeze(1), expanded, transposed)
        if torch.is_autocast_enabled(x.device.type):
            # Autocast does not reach backward: the saved tensors must have one type.
            dtype = torch.get_autocast_dtype(x.device.type)
            x, weight = x.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        out: Tensor = _SharedLinear.apply(x, weight, bias, self)
        return out

    def join_rows(self, tensor: Tensor) -> Tensor:
        """[K, O, A] → [S, R·O, A]: concatenates the rows of the trials of each input."""
        return self._by_source(tensor).flatten(1, 3)

    def split_rows(self, joined: Tensor, size: int) -> Tensor:
        """[S, R·O, A] → [K, O, A], with O = size."""
        sources, _, a = joined.shape
        return self._by_trial(joined.view(sources, self.blocks or 1, -1, size, a))

    def join_columns(self, tensor: Tensor) -> Tensor:
        """[K, A, O] → [S, A, R·O]: concatenates the columns of the trials of each input."""
        return self._by_source(tensor).permute(0, 3, 1, 2, 4).flatten(2)

    def split_columns(self, joined: Tensor, size: int) -> Tensor:
        """[S, A, R·O] → [K, A, O], with O = size."""
        sources, a, _ = joined.shape
        parts = joined.view(sources, a, self.blocks or 1, -1, size)
        return self._by_trial(parts.permute(0, 2, 3, 1, 4))

    def _by_source(self, tensor: Tensor) -> Tensor:
        """[K, A, O] → [S, blocks, R/blocks, A, O], without a copy if there are blocks."""
        if not self.blocks:
            tensor = tensor.index_select(0, self.order)
            return tensor.view(self.sources, 1, -1, *tensor.shape[1:])
        return tensor.view(self.blocks, self.sources, -1, *tensor.shape[1:]).transpose(0, 1)

    def _by_trial(self, parts: Tensor) -> Tensor:
        """[S, blocks, R/blocks, A, O] → [K, A, O]"""
        if not self.blocks:
            return parts.flatten(0, 2).index_select(0, self.inverse)
        return parts.transpose(0, 1).flatten(0, 2)


def _count_blocks(index: list[int], sources: int) -> int:
    """Returns 2 for 0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2: two blocks of three inputs."""
    width = next((i for i, source in enumerate(index) if source != index[0]), len(index))
    block = [source for source in range(sources) for _ in range(width)]
    count, remainder = divmod(len(index), len(block))
    return count if not remainder and index == block * count else 0


class _SharedLinear(torch.autograd.Function):
    """One wide product for all trials of an input; the inputs themselves need no gradient."""

    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor | None, shared: SharedInputs
    ) -> Tensor:
        context.save_for_backward(x)
        context.shared, context.has_bias = shared, bias is not None
        wide = torch.bmm(x, shared.join_rows(weight).transpose(1, 2))
        out = shared.split_columns(wide, weight.shape[1])
        return out if bias is None else out.add_(bias.unsqueeze(1))

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        (x,) = context.saved_tensors
        shared: SharedInputs = context.shared
        joined = torch.bmm(shared.join_columns(gradient).transpose(1, 2), x)
        weight = shared.split_rows(joined, gradient.shape[2])
        return None, weight, gradient.sum(1) if context.has_bias else None, None


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """All that layers need beside their inputs.

    parameters, buffers: stacked, by their names in the model. training: whether batch
    normalisation uses the batch's own statistics. masks: for dropout; None leaves dropout out.
    """

    parameters: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    training: bool
    masks: DropoutMasks | None
    shared: SharedInputs


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack.

    run: computes [K, B, …] → [K, B, …]. is_stateless: whether it has no values of its own, so that
    it also accepts shared inputs [S, B, …] and keeps them shared. accepts_shared: whether it
    computes [S, B, …] → [K, B, …]. is_verified_in_training: whether a pass in training mode is
    compared with that of the model before the stack trains.
    """

    run: Callable[[Tensor, ForwardPass], Tensor]
    is_stateless: bool = False
    accepts_shared: bool = False
    is_verified_in_training: bool = False
