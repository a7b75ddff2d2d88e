"""Dropout in a stack: masks drawn per seed, and modules that take their masks from outside.

Under `torch.vmap` nothing may be drawn. `DropoutInterceptor` therefore catches every call of a
dropout function of `torch.nn.functional`, which `nn.Dropout` and its variants call too, and applies
a mask that was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from harness.core.seeding import generator
from harness.training.stacked.modules.forward_pass import Unstackable

ALPHA = 1.7580993408473766
"""−αλ of SELU (Klambauer et al., NIPS 2017): alpha dropout replaces a value by −ALPHA. torch uses
the same constant."""

NUMBERS_PER_DRAW = 1 << 15
"""Numbers that a layer draws at a time for one seed, to make fewer calls than one per batch. This
must not change: a generator's numbers depend on how many are drawn at a time."""


class EpochDropoutMasks:
    """The dropout masks of one epoch, from one random stream for each seed and layer.

    Trials of one seed share their masks, whatever other trials the stack has. They differ from the
    masks of a trial that trains alone, which come from one stream for all layers.

    seeds: without duplicates. seed_indices: int64 [K], the index of each trial's seed.
    """

    def __init__(
        self, seeds: Sequence[int], seed_indices: Tensor, epoch: int, dtype: torch.dtype
    ) -> None:
        self._seeds = seeds
        self._seed_indices = seed_indices
        self._one_trial_per_seed = seed_indices.tolist() == list(range(len(seeds)))
        self._epoch = epoch
        self._dtype = dtype
        self._generators: dict[int | str, list[torch.Generator]] = {}
        self._shapes: dict[int | str, tuple[int, ...]] = {}
        self._drawn: dict[int | str, _DrawnMasks] = {}

    def next(self, layer: int | str, shape: Sequence[int], p: float) -> Tensor:
        """Returns a mask [K, *shape] of 0 and 1 / (1 − p); an epoch's last batch may be shorter."""
        full = self._shapes.setdefault(layer, tuple(shape))
        drawn = self._drawn.get(layer)
        if drawn is None or drawn.used == drawn.masks.shape[1]:
            drawn = self._drawn[layer] = _DrawnMasks(self._draw(layer, full, p))
        mask = drawn.masks[:, drawn.used][(slice(None), *(slice(size) for size in shape))]
        drawn.used += 1
        return mask if self._one_trial_per_seed else mask.index_select(0, self._seed_indices)

    def state(self) -> dict[str, Any]:
        """Returns what `load` needs to continue within the epoch."""
        return {
            "streams": {
                layer: [stream.get_state() for stream in streams]
                for layer, streams in self._generators.items()
            },
            "shapes": dict(self._shapes),
            "blocks": {layer: (drawn.masks, drawn.used) for layer, drawn in self._drawn.items()},
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Continues within the epoch. Raises RuntimeError if the state is of another device."""
        device = self._seed_indices.device
        for layer, states in state["streams"].items():
            for stream, saved in zip(self._generators_of(layer), states, strict=True):
                stream.set_state(saved)
        self._shapes = {layer: tuple(shape) for layer, shape in state["shapes"].items()}
        self._drawn = {
            layer: _DrawnMasks(masks.to(device), used)
            for layer, (masks, used) in state["blocks"].items()
        }

    def _generators_of(self, layer: int | str) -> list[torch.Generator]:
        """Returns each seed's generator; a new one if the layer has not drawn yet."""
        if layer not in self._generators:
            device = str(self._seed_indices.device)
            self._generators[layer] = [
                generator(seed, "dropout", self._epoch, layer, device=device)
                for seed in self._seeds
            ]
        return self._generators[layer]

    def _draw(self, layer: int | str, shape: tuple[int, ...], p: float) -> Tensor:
        generators = self._generators_of(layer)
        batches = max(1, NUMBERS_PER_DRAW // prod(shape))
        size = (len(generators), batches, *shape)
        masks = torch.empty(size, dtype=self._dtype, device=self._seed_indices.device)
        for mask, stream in zip(masks, generators, strict=True):
            mask.bernoulli_(1 - p, generator=stream)
        return masks.div_(1 - p) if p < 1 else masks


@dataclass(slots=True)
class _DrawnMasks:
    """Masks of one layer for several batches, [seeds, batches, *shape]. used: how many are used."""

    masks: Tensor
    used: int = 0


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """What one call of dropout needs: the shape of a mask for one trial's batch, and p."""

    shape: tuple[int, ...]
    p: float


class DropoutInterceptor(TorchFunctionMode):
    """Makes each dropout function apply the next of `masks`; with `masks` None, dropout does
    nothing.

    expected: the specification of each mask. seen: that of each call.
    """

    def __init__(self, expected: Sequence[MaskSpec] = ()) -> None:
        super().__init__()
        self._expected = expected
        self.masks: Sequence[Tensor] | None = None
        self.seen: list[MaskSpec] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        function = _FUNCTIONS.get(func)
        if function is None:
            return func(*args, **(kwargs or {}))
        return self._apply(function, *args, **(kwargs or {}))

    def _apply(
        self,
        function: _DropoutFunction,
        input: Tensor,  # noqa: A002 - a caller may name it
        p: float = 0.5,
        training: bool | None = None,
        inplace: bool = False,
    ) -> Tensor:
        """Takes the arguments of every dropout function, in torch's order and with its defaults."""
        is_training = not function.alpha if training is None else training
        x, p = input, float(p)
        if not is_training or p == 0:
            return x
        index, spec = len(self.seen), MaskSpec(function.mask_shape(x), p)
        self.seen.append(spec)
        if self.masks is None:
            return x
        if list(self._expected[index : index + 1]) != [spec]:
            raise Unstackable(
                "its dropout changes from one batch to the next, and a stack draws masks beforehand"
            )
        mask = self.masks[index].to(x.dtype)
        if function.alpha:
            return _alpha_dropout(x, mask, p)
        return x.mul_(mask) if inplace else x * mask


@dataclass(frozen=True, slots=True)
class _DropoutFunction:
    """A dropout function of `torch.nn.functional`.

    whole_channels: whether it drops channels. unbatched: if it accepts inputs without a batch
    dimension, the number of their dimensions.
    """

    whole_channels: bool = False
    unbatched: int | None = None
    alpha: bool = False

    def mask_shape(self, x: Tensor) -> tuple[int, ...]:
        if not self.whole_channels:
            return tuple(x.shape)
        leading = 1 if x.dim() == self.unbatched else 2
        return (*x.shape[:leading], *(1 for _ in x.shape[leading:]))


_FUNCTIONS: dict[Callable[..., Tensor], _DropoutFunction] = {
    functional.dropout: _DropoutFunction(),
    functional.dropout1d: _DropoutFunction(whole_channels=True, unbatched=2),
    functional.dropout2d: _DropoutFunction(whole_channels=True),
    functional.dropout3d: _DropoutFunction(whole_channels=True, unbatched=4),
    functional.alpha_dropout: _DropoutFunction(alpha=True),
    functional.feature_alpha_dropout: _DropoutFunction(whole_channels=True, alpha=True),
}


def _alpha_dropout(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """Replaces dropped values by −ALPHA, then computes a·x + b, which keeps mean and variance.

    a = ((1 − p)(1 + p·ALPHA²))^(−1/2) and b = a·p·ALPHA.
    """
    if p == 1:
        return x * mask
    kept = (mask > 0).to(x.dtype)
    a = 1 / sqrt((1 - p) * (1 + p * ALPHA**2))
    return x * (kept * a) + ((kept - 1) * (ALPHA * a) + ALPHA * a * p)
