"""Dropout inside any module by masks from outside, in the order of its use.

Under `torch.vmap` nothing may be drawn. So every call of a dropout function of
`torch.nn.functional`, which `nn.Dropout` and its kin make too, is caught on its way and takes a
mask that was drawn before.
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
"""−αλ of SELU (Klambauer et al., NIPS 2017): what alpha dropout puts in place of a value, negated;
torch's constant."""


@dataclass(frozen=True, slots=True)
class MaskSpec:
    """What one use of dropout wants: a mask's shape, of one trial's batch, and the chance."""

    shape: tuple[int, ...]
    p: float


@dataclass(frozen=True, slots=True)
class _Kind:
    """A dropout function. unbatched: the number of dimensions of inputs without examples, where
    whole channels are dropped and such inputs are allowed."""

    whole_channels: bool = False
    unbatched: int | None = None
    alpha: bool = False

    def shape(self, x: Tensor) -> tuple[int, ...]:
        if not self.whole_channels:
            return tuple(x.shape)
        kept = 1 if x.dim() == self.unbatched else 2
        return (*x.shape[:kept], *(1 for _ in x.shape[kept:]))


_KINDS: dict[Callable[..., Tensor], _Kind] = {
    functional.dropout: _Kind(),
    functional.dropout1d: _Kind(whole_channels=True, unbatched=2),
    functional.dropout2d: _Kind(whole_channels=True),
    functional.dropout3d: _Kind(whole_channels=True, unbatched=4),
    functional.alpha_dropout: _Kind(alpha=True),
    functional.feature_alpha_dropout: _Kind(whole_channels=True, alpha=True),
}


class DropoutInterceptor(TorchFunctionMode):
    """While it is entered, dropout takes the next of `masks`; where they are None, it does nothing.

    expected: what each use wants, where there are masks. seen: what each use wanted.
    """

    def __init__(self, expected: Sequence[MaskSpec] = ()) -> None:
        super().__init__()
        self._expected = expected
        self.masks: Sequence[Tensor] | None = None
        self.seen: list[MaskSpec] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _KINDS.get(func)
        if kind is None:
            return func(*args, **(kwargs or {}))
        return self._apply(kind, _Call.of(kind, *args, **(kwargs or {})))

    def _apply(self, kind: _Kind, call: _Call) -> Tensor:
        x = call.input
        if not call.training or call.p == 0:
            return x
        place, wanted = len(self.seen), MaskSpec(kind.shape(x), call.p)
        self.seen.append(wanted)
        if self.masks is None:
            return x
        if list(self._expected[place : place + 1]) != [wanted]:
            raise Unstackable("its dropout changes from one batch to the next")
        mask = self.masks[place].to(x.dtype)
        if kind.alpha:
            return _alpha(x, mask, call.p)
        return x.mul_(mask) if call.inplace else x * mask


@dataclass(frozen=True, slots=True)
class _Call:
    """The arguments of a dropout function, which all of them take in this order."""

    input: Tensor
    p: float
    training: bool
    inplace: bool

    @classmethod
    def of(
        cls,
        kind: _Kind,
        input: Tensor,  # noqa: A002 - a caller may name it
        p: float = 0.5,
        training: bool | None = None,
        inplace: bool = False,
    ) -> _Call:
        if training is None:
            training = not kind.alpha  # As their signatures have it.
        return cls(input, float(p), training, inplace)


def _alpha(x: Tensor, mask: Tensor, p: float) -> Tensor:
    """What is dropped becomes −ALPHA, and then all is scaled and shifted so that mean and variance
    stay: a·x + b with a = ((1 − p)(1 + p·ALPHA²))^(−1/2) and b = a·p·ALPHA."""
    if p == 1:
        return x * mask
    kept = (mask > 0).to(x.dtype)
    a = 1 / sqrt((1 - p) * (1 + p * ALPHA**2))
    return x * (kept * a) + ((kept - 1) * (ALPHA * a) + ALPHA * a * p)


DRAWN_AT_ONCE = 1 << 15
"""Numbers that one trial's layer draws at a time: fewer calls than one a batch. A constant, since
what a generator gives depends on how much is asked of it at a time."""


@dataclass(slots=True)
class _Block:
    """Masks of one layer for some batches: [seeds, batches, *shape]; `used` of them are spent."""

    masks: Tensor
    used: int = 0


class EpochDropoutMasks:
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
