"""Whether a stack computes what its models do, tried on a few examples before it trains."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from harness.experiment.trial import Trial
from harness.training.stacked.modules.dropout import DropoutInterceptor
from harness.training.stacked.modules.forward_pass import SharedInputs, Unstackable
from harness.training.stacked.network import StackedNetwork

TOLERANCE = 1e-3
NOISE = 1e-6
"""Of the largest input: some ten times what rounding does."""
TRAINED = 4
"""Models at most whose passes in training mode are compared: they differ in their values alone."""


def verify(
    network: StackedNetwork, models: Sequence[nn.Module], x: Tensor, sharing: SharedInputs
) -> None:
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
    with explain_errors():
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
    with torch.no_grad(), DropoutInterceptor(), forbid_hidden_state(model):
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


_OF_TORCH: Final = frozenset({"training", *vars(nn.Module())})


@contextmanager
def forbid_hidden_state(model: nn.Module) -> Iterator[None]:
    """Raises Unstackable where what runs inside changes a plain attribute of the model: a number, a
    text or a tensor that is no buffer. Trials of a stack would share it."""
    before = _attributes(model)
    yield
    after = _attributes(model)
    for name in before.keys() | after.keys():
        one, other = before.get(name), after.get(name)
        if one is not other and (isinstance(other, Tensor) or one != other):
            raise Unstackable(
                f"its forward pass changes {name}, and what a model keeps between batches a stack "
                "finds in buffers alone"
            )


def _attributes(model: nn.Module) -> dict[str, object]:
    """Plain attributes by their names in the model ("block.calls")."""
    return {
        f"{prefix}.{name}".lstrip("."): value
        for prefix, part in model.named_modules()
        for name, value in vars(part).items()
        if name not in _OF_TORCH and isinstance(value, Tensor | int | float | str)
    }


_KNOWN: Final = {
    "random operation": "it draws random numbers by itself (as attention does for its own "
    "dropout), and a stack gives each trial its own for nn.Dropout and its kin alone",
    "data-dependent control flow": "what it does next depends on the values before (if, while)",
    ".item()": "it takes a number out of a tensor (.item(), float()), which differs by trial",
    "dynamic shape": "the shape of what it computes depends on the values before",
}
"""What is found in a message of `torch.vmap`, and what it means."""


@contextmanager
def explain_errors() -> Iterator[None]:
    """Raises Unstackable, with a reason, where torch cannot do for a stack what is done inside."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        first, *_ = str(error).splitlines() or [""]
        raise Unstackable(explain_vmap_error(error) or f"torch cannot stack it: {first}") from error


def explain_vmap_error(error: BaseException) -> str | None:
    """What an error of `torch.vmap` means; None for another."""
    message = str(error)
    if not message.startswith("vmap: "):
        return None
    first, *_ = message.splitlines()
    return next(
        (reason for part, reason in _KNOWN.items() if part in message),
        f"torch cannot stack it: {first}",
    )


ROWS, EXAMPLES = 2, 4


def stacking_refusal(trial: Trial, data_root: Path) -> str | None:
    """Why this trial's model cannot train as a stack, from its layers and a pass over inputs
    without values; None where it may.

    The model is built without memory for its weights; one that cannot be built or run so is not
    judged.
    """
    info = trial.dataset.component.info(trial.dataset.options, data_root)
    outputs = trial.loss.component.outputs(info)
    nowhere = torch.device("meta")
    try:
        with nowhere:
            model = trial.model.component.build(trial.model.options, info, outputs)
            network = StackedNetwork([model] * ROWS, nowhere)
            with forbid_hidden_state(model):
                _rehearse(network, info.shape)
    except Unstackable as reason:
        return f"model {trial.model.name}: {reason}"
    except Exception as error:  # noqa: BLE001 - whatever a model raises that wants real weights
        known = explain_vmap_error(error)
        return known and f"model {trial.model.name}: {known}"
    return None


def _rehearse(network: StackedNetwork, shape: Sequence[int]) -> None:
    """A pass in each mode over examples of a shape."""
    sharing = SharedInputs.of(torch.zeros(ROWS, dtype=torch.int64, device="cpu"), 1)
    for training in (True, False):
        network.rehearse(torch.empty((1, EXAMPLES, *shape)), sharing, training)
