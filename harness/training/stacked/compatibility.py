"""Whether a model can train in a stack: by its layers alone, or by comparing its outputs.

`stacking_refusal` needs neither data nor weights, and serves `--dry-run`. `verify` compares a stack
with its models on a few examples, before it trains.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from harness.components.base import DataInfo, Model
from harness.experiment.trial import Choice, Trial
from harness.training.stacked.modules.dropout import DropoutInterceptor
from harness.training.stacked.modules.forward_pass import SharedInputs, Unstackable
from harness.training.stacked.network import StackedNetwork

TOLERANCE = 1e-3
"""Relative and absolute, between results of a stack and of a model."""
NOISE = 1e-6
"""Relative to the largest input: about ten times the rounding error."""
TRAINED_MODELS = 4
"""The most models whose passes in training mode are compared: they differ in their values alone."""
PROBE_TRIALS, PROBE_EXAMPLES = 2, 4

_LOGITS = ""
"""The key of logits beside those of buffers, whose names are not empty."""

_VMAP_ERRORS: Final = {
    "random operation": "it draws random numbers by itself, as attention does for its own dropout; "
    "in a stack only nn.Dropout and its variants can draw, separately for each trial",
    "data-dependent control flow": "its control flow (if, while) depends on the values of tensors; "
    "torch.where works in a stack",
    ".item()": "it reads a number from a tensor (.item(), float()), which differs by trial",
    "dynamic shape": "the shape of what it computes depends on the values of tensors, as indexing "
    "by a mask does",
}
"""Parts of messages of `torch.vmap`, and explanations for the author of a module."""


def stacking_refusal(trial: Trial, data_root: Path) -> str | None:
    """Returns why a trial's model cannot train in a stack; None if nothing is known against it."""
    info = trial.dataset.component.info(trial.dataset.options, data_root)
    reason = model_refusal(trial.model, info, trial.loss.component.outputs(info))
    return reason and f"model {trial.model.name}: {reason}"


def model_refusal(choice: Choice[Model], info: DataInfo, outputs: int) -> str | None:
    """Returns why a model cannot train in a stack; None if nothing is known against it.

    Runs the stacked layers on tensors without values (torch's meta device), without data or
    weights. A model that cannot be built or run so is not refused.
    """
    meta = torch.device("meta")
    try:
        with meta:
            model = choice.component.build(choice.options, info, outputs)
            network = StackedNetwork([model] * PROBE_TRIALS, meta)
            inputs = torch.empty((1, PROBE_EXAMPLES, *info.shape))
            index = torch.zeros(PROBE_TRIALS, dtype=torch.int64, device="cpu")
            with forbid_hidden_state(model):
                for training in (True, False):
                    network.forward_without_trace(inputs, SharedInputs.of(index, 1), training)
    except Unstackable as reason:
        return str(reason)
    except Exception as error:  # noqa: BLE001 - whatever a model raises that needs real weights
        return _explain_vmap_error(error)
    return None


def verify(
    network: StackedNetwork, models: Sequence[nn.Module], x: Tensor, shared: SharedInputs
) -> None:
    """Compares a stack's outputs, and its buffers after a training batch, with those of its models.

    models: those of the network, in its order. x: [S, B, …], a few examples. Dropout is left out,
    so that nothing is drawn. Raises Unstackable if they differ.
    """
    inputs = list(shared.expand(x).cpu())
    evaluated = [_logits_in_evaluation(m, own) for m, own in zip(models, inputs, strict=True)]
    first = {id(model): i for i, model in reversed(list(enumerate(models)))}
    chosen = sorted(first.values())[:TRAINED_MODELS] if network.is_verified_in_training else []
    # The models run before the stack: a tensor that vmap leaves in a module is invalid afterwards.
    trained = {i: _training_results(models[i], inputs[i]) for i in chosen}
    with explain_errors():
        logits, _ = network.forward_without_trace(x, shared, training=False)
        for mine, expected in zip(logits.cpu(), evaluated, strict=True):
            _require(
                mine.shape == expected.shape
                and torch.allclose(mine, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)
            )
        if trained:
            logits, buffers = network.forward_without_trace(x, shared, training=True)
        for i, results in trained.items():
            mine = {name: buffer[i] for name, buffer in buffers.items()} | {_LOGITS: logits[i]}
            _compare_in_training(models[i], inputs[i], results, mine)


def _compare_in_training(
    model: nn.Module, x: Tensor, expected: Mapping[str, Tensor], mine: Mapping[str, Tensor]
) -> None:
    """Compares a stack's results in training mode with those of one model.

    The tolerance grows with how much noise in the inputs changes each result: batch normalisation
    of almost equal values amplifies rounding errors.
    """
    again = _training_results(model, x)
    if not all(torch.equal(again[name], value) for name, value in expected.items()):
        raise Unstackable(
            "the same examples give other results a second time, and a stack has a model's "
            "state in buffers alone: use register_buffer"
        )
    if x.is_floating_point():
        noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
        again = _training_results(model, x + NOISE * x.abs().max() * noise)
    for name, value in expected.items():
        tolerance = TOLERANCE * float(value.double().norm()) + NOISE * value.numel()
        tolerance += 2 * _distance(again[name], value)
        result = mine[name].cpu()
        _require(result.shape == value.shape and _distance(result, value) <= tolerance)


def _logits_in_evaluation(model: nn.Module, x: Tensor) -> Tensor:
    """Returns a model's logits in evaluation mode; leaves it in training mode."""
    model.eval()
    with torch.no_grad():
        logits: Tensor = model(x)
    model.train()
    return logits


def _training_results(model: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
    """Returns a model's logits in training mode, without dropout, and its buffers after it; then
    restores the buffers."""
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad(), DropoutInterceptor(), forbid_hidden_state(model):
        logits: Tensor = model(x)
    after = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(before[name])
    return after | {_LOGITS: logits}


def _distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm())


def _require(condition: bool) -> None:
    if not condition:
        raise Unstackable(
            "in a stack it computes something else than by itself: its outputs differ, or its "
            "buffers after a training batch"
        )


@contextmanager
def forbid_hidden_state(model: nn.Module) -> Iterator[None]:
    """Raises Unstackable if a plain attribute of the model changes inside: a number, a text or a
    tensor that is no buffer. The trials of a stack would share it."""
    before = _attributes(model)
    yield
    after = _attributes(model)
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        if old is not new and (isinstance(new, Tensor) or old != new):
            raise Unstackable(
                f"its forward pass changes {name}, which the trials of a stack would share: "
                "use register_buffer"
            )


_OF_TORCH: Final = frozenset({"training", *vars(nn.Module())})


def _attributes(model: nn.Module) -> dict[str, object]:
    """Returns a model's plain attributes by their names ("block.calls")."""
    return {
        f"{prefix}.{name}".lstrip("."): value
        for prefix, part in model.named_modules()
        for name, value in vars(part).items()
        if name not in _OF_TORCH and isinstance(value, Tensor | int | float | str)
    }


@contextmanager
def explain_errors() -> Iterator[None]:
    """Turns torch's errors inside the block into Unstackable, with an explanation."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, NotImplementedError) as error:
        first, *_ = str(error).splitlines() or [""]
        explanation = _explain_vmap_error(error) or f"torch cannot stack it: {first}"
        raise Unstackable(explanation) from error


def _explain_vmap_error(error: BaseException) -> str | None:
    """Explains an error of `torch.vmap`; returns None for any other error."""
    message = str(error)
    if not message.startswith("vmap: "):
        return None
    first, *_ = message.splitlines()
    return next(
        (explanation for part, explanation in _VMAP_ERRORS.items() if part in message),
        f"torch cannot stack it: {first}",
    )
