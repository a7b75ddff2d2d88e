"""Dropout inside any module by masks from outside, in the order of its use.

Under `torch.vmap` nothing may be drawn. So every call of a dropout function of
`torch.nn.functional`, which `nn.Dropout` and its kin make too, is caught on its way and takes a
mask that was drawn before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from harness.training.stacked.passes import Unstackable

ALPHA = 1.7580993408473766
"""−αλ of SELU (Klambauer et al., NIPS 2017): what alpha dropout puts in place of a value, negated;
torch's constant."""


@dataclass(frozen=True, slots=True)
class Drawn:
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


class Dropouts(TorchFunctionMode):
    """While it is entered, dropout takes the next of `masks`; where they are None, it does nothing.

    expected: what each use wants, where there are masks. seen: what each use wanted.
    """

    def __init__(self, expected: Sequence[Drawn] = ()) -> None:
        super().__init__()
        self._expected = expected
        self.masks: Sequence[Tensor] | None = None
        self.seen: list[Drawn] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kind = _KINDS.get(func)
        if kind is None:
            return func(*args, **(kwargs or {}))
        return self._apply(kind, _Call.of(kind, *args, **(kwargs or {})))

    def _apply(self, kind: _Kind, call: _Call) -> Tensor:
        x = call.input
        if not call.training or call.p == 0:
            return x
        place, wanted = len(self.seen), Drawn(kind.shape(x), call.p)
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
