"""Whether a stack computes what its models do, tried on a few examples before it trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from harness.training.stacked.masked import Dropouts
from harness.training.stacked.network import Network
from harness.training.stacked.passes import Unstackable
from harness.training.stacked.refusals import told
from harness.training.stacked.sharing import Sharing
from harness.training.stacked.state import stateless

TOLERANCE = 1e-3
NOISE = 1e-6
"""Of the largest input: some ten times what rounding does."""
TRAINED = 4
"""Models at most whose passes in training mode are compared: they differ in their values alone."""


def check(network: Network, models: Sequence[nn.Module], x: Tensor, sharing: Sharing) -> None:
    """Raises Unstackable where the stack's outputs are not the models', or where its statistics
    after a batch of training are not theirs.

    models: of its rows. x: [S, B, …], a few examples. Nothing is drawn: dropout is left out.
    """
    inputs = list(sharing.spread(x).cpu())
    evaluated = [_evaluated(model, own) for model, own in zip(models, inputs, strict=True)]
    first = {id(model): row for row, model in reversed(list(enumerate(models)))}
    rows = sorted(first.values())[:TRAINED] if network.is_rehearsed else []
    # The models before the stack: a tensor that a module keeps for itself is of no use after that.
    trained = {row: _trained(models[row], inputs[row]) for row in rows}
    with told():
        ours, _ = network.rehearse(x, sharing, training=False)
        for mine, theirs in zip(ours.cpu(), evaluated, strict=True):
            _require(
                mine.shape == theirs.shape
                and torch.allclose(mine, theirs, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
            )
        if trained:
            ours, buffers = network.rehearse(x, sharing, training=True)
        for row, values in trained.items():
            own = {name: buffer[row] for name, buffer in buffers.items()} | {_LOGITS: ours[row]}
            _require(_Trained.of(models[row], inputs[row], values).is_like(own))


_LOGITS = ""
"""Beside buffers, whose names are not empty."""


@dataclass(frozen=True, slots=True)
class _Trained:
    """What a model computes in training mode, and how much of it changes with a little noise in its
    inputs: where a batch has almost no spread, dividing by it makes rounding large."""

    values: Mapping[str, Tensor]
    change: Mapping[str, float]

    @classmethod
    def of(cls, model: nn.Module, x: Tensor, values: Mapping[str, Tensor]) -> _Trained:
        again = _trained(model, x)
        if not all(torch.equal(again[name], value) for name, value in values.items()):
            raise Unstackable(
                "the same examples a second time give something else: what a model keeps between "
                "batches a stack finds in buffers alone"
            )
        if not x.is_floating_point():
            return cls(values, dict.fromkeys(values, 0.0))
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        beside = _trained(model, x + NOISE * x.abs().max() * noise)
        return cls(values, {name: _distance(beside[name], values[name]) for name in values})

    def is_like(self, mine: Mapping[str, Tensor]) -> bool:
        return all(
            mine[name].shape == theirs.shape
            and _distance(mine[name].cpu(), theirs) <= self._tolerance(name)
            for name, theirs in self.values.items()
        )

    def _tolerance(self, name: str) -> float:
        own = self.values[name].double()
        return TOLERANCE * float(own.norm()) + NOISE * own.numel() + 2 * self.change[name]


def _evaluated(model: nn.Module, x: Tensor) -> Tensor:
    """A model's logits in evaluation mode; it is left in training mode."""
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(x)
    model.train()
    return logits


def _trained(model: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
    """A model's logits in training mode, without dropout, and its buffers after it; they are put
    back as they were."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), Dropouts(), stateless(model):
        logits: Tensor = model(x)
    after = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return after | {_LOGITS: logits}


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm())


def _require(same: bool) -> None:
    if not same:
        raise Unstackable("as a stack it computes something else")
