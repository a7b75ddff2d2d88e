"""Whether a model can train in a stack: by its layers alone, or by comparing its outputs.

`stacking_refusal` needs neither data nor weights, and serves `--dry-run`. `verify` compares a stack
with its models on a few examples, before it trains.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from harness.components.base import Batch, DataInfo, Model
from harness.core.errors import first_line
from harness.experiment.trial import Choice, Trial
from harness.training.own_step import OwnStep, step_generator
from harness.training.stacked.modules.dropout import DropoutInterceptor
from harness.training.stacked.modules.forward_pass import SharedInputs, Unstackable
from harness.training.stacked.network import StackedNetwork
from harness.training.stacked.own_step import StackedStep

TOLERANCE = 1e-3
"""Relative and absolute, between results of a stack and of a model."""
NOISE = 1e-6
"""Relative to the largest input: about ten times the rounding error."""
TRAINED_MODELS = 4
"""The most models whose passes in training mode are compared: they differ in their values alone."""
PROBE_TRIALS, PROBE_EXAMPLES = 2, 4

_LOGITS = ""
"""The key of logits beside those of buffers, whose names are not empty."""
_LOSSES, _GRADIENT = " losses", " gradient"
"""A name has no space."""

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
    network: StackedNetwork,
    models: Sequence[nn.Module],
    x: Tensor,
    shared: SharedInputs,
    in_training: bool = True,
) -> None:
    """Compares a stack's outputs, and its buffers after a training batch, with those of its models.

    models: those of the network, in its order. x: [S, B, …], a few examples. Dropout is left out,
    so that nothing is drawn. in_training: whether the models train by what they return. Raises
    Unstackable if they differ.
    """
    inputs = list(shared.expand(x).cpu())
    evaluated = [_logits_in_evaluation(m, own) for m, own in zip(models, inputs, strict=True)]
    chosen = _trained(models) if in_training and network.is_verified_in_training else []
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


def _trained(models: Sequence[nn.Module]) -> list[int]:
    """Returns the places of the models that are trained on a batch: different ones."""
    first = {id(model): i for i, model in reversed(list(enumerate(models)))}
    return sorted(first.values())[:TRAINED_MODELS]


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
        logits: object = model(x)
    model.train()
    if not isinstance(logits, Tensor):
        raise Unstackable(f"it returns a {type(logits).__name__}, and not a tensor")
    return logits


def _training_results(model: nn.Module, x: Tensor) -> Mapping[str, Tensor]:
    """Returns a model's logits in training mode, without dropout, and its buffers after it; then
    restores the buffers."""
    before = _copies_of_buffers(model)
    with torch.no_grad(), DropoutInterceptor(), forbid_hidden_state(model):
        logits: Tensor = model(x)
    after = _copies_of_buffers(model)
    _restore_buffers(model, before)
    return after | {_LOGITS: logits}


def _copies_of_buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


def _restore_buffers(model: nn.Module, values: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(values[name])


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
        explanation = _explain_vmap_error(error) or f"torch cannot stack it: {first_line(error)}"
        raise Unstackable(explanation) from error


def _explain_vmap_error(error: BaseException) -> str | None:
    """Explains an error of `torch.vmap`; returns None for any other error."""
    message = str(error)
    if not message.startswith("vmap: "):
        return None
    return next(
        (explanation for part, explanation in _VMAP_ERRORS.items() if part in message),
        f"torch cannot stack it: {first_line(error)}",
    )


def verify_step(
    step: StackedStep,
    network: StackedNetwork,
    models: Sequence[nn.Module],
    seeds: Sequence[int],
    batch: Batch,
) -> None:
    """Compares a stack's training step with that of some of its models: outputs, losses, buffers
    and gradients, with the same draws and without dropout.

    models, seeds: of the trials, in the network's order. batch: [K, B, …]. Raises Unstackable if
    they differ, and what the step raises.
    """
    device = batch.inputs.device
    alone = {}
    for i in _trained(models):
        own = Batch(batch.inputs[i].clone(), batch.targets[i].clone())
        model = models[i] if device.type == "cpu" else copy.deepcopy(models[i]).to(device)
        alone[i] = _step_results(step.own, model, own, seeds[i])
        _require_the_same_again(alone[i], _step_results(step.own, model, own, seeds[i]))
    generators = [step_generator(seed, 1, str(device)) for seed in seeds]
    buffers = {name: buffer.clone() for name, buffer in network.buffers.items()}
    with explain_errors():
        out, losses = step.run(
            network.leaves(), buffers, batch, None, lambda draw: draw.from_each(generators)
        )
        network.backward(losses)
    for i, expected in alone.items():
        row = network.gradient[i]
        mine = {_LOGITS: out[i], _LOSSES: losses[i]}
        mine |= {name: buffer[i] for name, buffer in buffers.items()}
        mine |= {f"{part.name}{_GRADIENT}": part.of_trial(row) for part in network.slices}
        for name, value in expected.items():
            tolerance = TOLERANCE * float(value.double().norm()) + TOLERANCE
            result = mine[name].detach()
            _require(result.shape == value.shape and not _distance(result, value) > tolerance)


def _require_the_same_again(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> None:
    if not all(torch.equal(second[name], value) for name, value in first.items()):
        raise Unstackable(
            "its training step gives other results a second time: in a stack it can draw from its "
            "generator alone, and keep state in buffers alone"
        )


def _step_results(own: OwnStep, model: nn.Module, batch: Batch, seed: int) -> Mapping[str, Tensor]:
    """Returns the outputs, losses, buffers and gradients of a model's training step, without
    dropout; then restores the buffers."""
    before = _copies_of_buffers(model)
    names, parameters = zip(*model.named_parameters(), strict=True)
    with DropoutInterceptor(), forbid_hidden_state(model):
        out, losses = own(model, batch, step_generator(seed, 1, str(batch.inputs.device)))
    gradients = torch.autograd.grad(losses.mean(), parameters, allow_unused=True)
    results = _copies_of_buffers(model)
    results |= {_LOGITS: out.detach(), _LOSSES: losses.detach()}
    for name, parameter, gradient in zip(names, parameters, gradients, strict=True):
        known = torch.zeros_like(parameter) if gradient is None else gradient
        results[f"{name}{_GRADIENT}"] = known
    _restore_buffers(model, before)
    return results
