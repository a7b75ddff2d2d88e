"""Makes components of a user's classes and functions, as they are.

Each adapter says what an object of its kind must be, which parameters the harness fills, and how it
is called. What does not fit is an InputError that says what was expected.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from math import nan
from typing import TYPE_CHECKING, Any, Final

from harness.components.base import (
    SINGULAR,
    Augmentation,
    AugmentationFunction,
    Batch,
    Component,
    DataInfo,
    Dataset,
    Loss,
    LossFunction,
    Metric,
    Model,
    Optimizer,
    Options,
    Scheduler,
    Task,
    TrainingLoop,
    TrainingStep,
)
from harness.components.code.datasets import dataset_signature, own_dataset
from harness.components.code.optimizers import make_optimizer
from harness.components.code.schedulers import own_scheduler, scheduler_signature
from harness.components.code.signatures import (
    PLACEHOLDERS,
    arguments,
    parameters,
    read_signature,
)
from harness.components.code.source import place_of
from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.text import kind_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.components.trial_context import TrialContext

Adapter = Callable[[str, Any, Mapping[str, Any]], Component]

STEP_FILLED: Final = ("model", "batch", "generator")
"""What a training step takes by position, whatever it calls them."""


def make_component(
    kind: str, name: str, target: Any, identity: str, details: Mapping[str, Any] | None = None
) -> Component:
    """Returns the component that a class or a function is.

    name: what the experiment file writes. identity: of the code that it comes from. details: what
    its decorator says of it. Raises InputError if it cannot be a component of this kind.
    """
    if kind not in ADAPTERS:
        raise InputError(Problem(f"{name}: code of one's own cannot be one of the {kind} yet"))
    if not callable(target):
        raise InputError(Problem(f"{name} is {target!r}, and not a class or a function"))
    component = ADAPTERS[kind](name, target, _checked(kind, name, target, details or {}))
    return replace(component, code=identity)


def _checked(kind: str, name: str, target: Any, details: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a decorator says. Raises InputError for what it cannot say of this kind."""
    allowed = ("name", *DETAILS.get(kind, ()))
    for detail, value in details.items():
        rule, hint = "", ""
        if detail not in allowed:
            rule, hint = f"says {detail!r}, which is unknown", did_you_mean(detail, allowed)
            hint = hint if len(allowed) > 1 else "it takes a name alone"
        elif detail == "direction" and value not in ("max", "min"):
            rule, hint = f"says direction={value!r}", "allowed: 'max', 'min'"
        elif detail == "tasks" and not set(value) <= set(Task):
            rule, hint = f"says tasks={value!r}", f"a list of: {', '.join(Task)}"
        if rule:
            wrong = f"the decorator of {SINGULAR[kind]} {name} {rule}"
            raise InputError(Problem(wrong, place_of(target), hint))
    given = dict(details)
    return given | ({"tasks": frozenset(map(Task, given["tasks"]))} if "tasks" in given else {})


def _common(name: str, target: Any, options: type[Options]) -> dict[str, Any]:
    first_line = inspect.cleandoc(target.__doc__ or "").partition("\n")[0]  # not a base class's
    return {
        "name": name,
        "description": first_line or f"`{getattr(target, '__qualname__', name)}`",
        "reference": "",
        "options": options,
    }


def _model(name: str, target: Any, details: Mapping[str, Any]) -> Model:
    signature = read_signature(target, name, placeholders=PLACEHOLDERS)

    def build(options: Options, info: DataInfo, outputs: int) -> nn.Module:
        from torch import nn

        described = replace(info, outputs=outputs)
        module = target(**arguments(signature, options, described))
        if not isinstance(module, nn.Module):
            wrong = f"{name} returned {kind_of(module)}, and not a torch.nn.Module"
            raise InputError(Problem(wrong, where=place_of(target)))
        return module

    own: dict[str, Any] = {"takes_tokens": True, "place": place_of(target)}
    return Model(build=build, **_common(name, target, signature.options), **own | dict(details))


def _optimizer(name: str, target: Any, details: Mapping[str, Any]) -> Optimizer:
    described = _common(name, target, Options)
    return Optimizer(**described | make_optimizer(name, target, details))


def _loss(name: str, target: Any, details: Mapping[str, Any]) -> Loss:
    """A class (torch's way) is built with its options; a function takes them at each call."""
    filled = ("reduction", *(() if inspect.isclass(target) else _first_two(name, target)))
    signature = read_signature(target, name, filled=filled)
    reduction = {"reduction": "none"} if "reduction" in parameters(target, name) else {}

    def build(options: Options) -> LossFunction:
        given = arguments(signature, options) | reduction
        function: Any = target(**given) if inspect.isclass(target) else partial(target, **given)

        def loss(logits: Tensor, targets: Tensor) -> Tensor:
            if logits.ndim > 2 and targets.ndim == 2:  # An autoencoder may return images.
                logits = logits.flatten(1)
            values = function(logits, targets)
            return _of_each_example(name, values, logits, place_of(target))

        return loss

    given_outputs = details.get("outputs")
    return Loss(
        build=build,
        outputs=_loss_outputs if given_outputs is None else lambda _info: int(given_outputs),
        tasks=details.get("tasks", frozenset(Task)),
        predict=details.get("predict"),
        **_common(name, target, signature.options),
    )


def _loss_outputs(info: DataInfo) -> int:
    """Returns one logit for each class, or one output for each value of a regression."""
    return info.classes or info.targets


def _of_each_example(name: str, values: Any, logits: Tensor, place: str) -> Tensor:
    """Returns the loss of each example, [B]; the mean over further dimensions.

    values: what a loss returned for a batch of logits. Raises InputError for anything else, and
    for values that no gradient leaves where one is wanted.
    """
    import torch

    examples = len(logits)
    is_tensor = isinstance(values, torch.Tensor)
    if not is_tensor or values.ndim == 0 or len(values) != examples:
        single = "a single number" if is_tensor else kind_of(values)
        shape = single if not is_tensor or not values.ndim else f"the shape {tuple(values.shape)}"
        raise InputError(
            Problem(
                f"loss {name} returned {shape} for {examples} examples",
                where=place,
                hint="a loss returns one value for each example, as torch's do with "
                "reduction='none'",
            )
        )
    if logits.requires_grad and not values.requires_grad and torch.is_grad_enabled():
        what = f"loss {name} returned values that do not depend on the model's outputs"
        hint = "did .detach(), .data, .item() or torch.no_grad() cut them off?"
        raise InputError(Problem(what, where=place, hint=hint))
    losses: Tensor = values
    return losses if losses.ndim == 1 else losses.flatten(1).mean(1)


def _metric(name: str, target: Any, details: Mapping[str, Any]) -> Metric:
    signature = read_signature(target, name, filled=_first_two(name, target))
    if signature.options.model_fields:
        names = ", ".join(signature.options.model_fields)
        wrong = f"metric {name} has options ({names}): metrics have none"
        raise InputError(Problem(wrong, place_of(target)))

    def compute(outputs: Tensor, targets: Tensor) -> float:
        if not len(targets) or not outputs.isfinite().all():
            return nan
        value = target(outputs, targets)
        try:
            return float(value)
        except (TypeError, ValueError, RuntimeError) as error:
            problem = Problem(f"metric {name} returned no number: {error}", where=place_of(target))
            raise InputError(problem) from error

    given = {"direction": "max", "unit": "", "tasks": frozenset(Task), **details}
    return Metric(compute=compute, **_common(name, target, signature.options), **given)


def _augmentation(name: str, target: Any, details: Mapping[str, Any]) -> Augmentation:
    signature = read_signature(target, name, filled=_first_two(name, target))

    def build(options: Options) -> AugmentationFunction:
        given = arguments(signature, options)

        def augmentation(batch: Tensor, generator: torch.Generator) -> Tensor:
            changed: Tensor = target(batch, generator, **given)
            if changed.shape != batch.shape:
                shapes = f"{tuple(changed.shape)} from {tuple(batch.shape)}"
                wrong = f"augmentation {name} changed the shape of a batch: {shapes}"
                raise InputError(Problem(wrong, where=place_of(target)))
            return changed

        return augmentation

    return Augmentation(build=build, **_common(name, target, signature.options), **details)


def _training_step(name: str, target: Any, details: Mapping[str, Any]) -> TrainingStep:
    given = list(parameters(target, name).values())[: len(STEP_FILLED)]
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    if inspect.isclass(target) or [p.kind in positional for p in given] != [True] * 3:
        wrong = f"training_step {name} must be a function whose first three parameters are a model,"
        wrong += " a batch and a random generator"
        hint = "write it as (model, batch, generator, …)"
        raise InputError(Problem(wrong, where=place_of(target), hint=hint))
    signature = read_signature(target, name, filled=[parameter.name for parameter in given])

    def run(
        options: Options, info: DataInfo, model: nn.Module, batch: Batch, random: torch.Generator
    ) -> Any:
        return target(model, batch, random, **arguments(signature, options, info))

    place = place_of(target)
    return TrainingStep(run=run, place=place, **_common(name, target, signature.options), **details)


def _training_loop(name: str, target: Any, details: Mapping[str, Any]) -> TrainingLoop:
    first = next(iter(parameters(target, name).values()), None)
    if first is None or first.kind in (first.KEYWORD_ONLY, first.VAR_KEYWORD):
        hint = "write it as (trial: harness.TrialContext, …)"
        wrong = f"training_loop {name} must take the trial as its first parameter"
        raise InputError(Problem(wrong, where=place_of(target), hint=hint))
    signature = read_signature(target, name, filled=(first.name,))

    def run(options: Options, trial: TrialContext) -> Any:
        info = trial.data if signature.takes_data else None
        return target(trial, **arguments(signature, options, info))

    place = place_of(target)
    return TrainingLoop(run=run, place=place, **_common(name, target, signature.options), **details)


def _dataset(name: str, target: Any, details: Mapping[str, Any]) -> Dataset:
    signature = dataset_signature(name, target)
    return own_dataset(name, target, _common(name, target, signature.options), details)


def _scheduler(name: str, target: Any, _details: Mapping[str, Any]) -> Scheduler:
    signature = scheduler_signature(name, target)
    return own_scheduler(name, target, _common(name, target, signature.options))


def _first_two(name: str, target: Any) -> tuple[str, str]:
    """Returns the names of the parameters that take a batch: the first two."""
    names = list(parameters(target, name))
    if len(names) < 2:
        wrong = f"{name} must take two tensors, and takes {len(names)}"
        raise InputError(Problem(wrong, place_of(target)))
    if names[0] in TARGET_NAMES:
        wrong = f"the first parameter of {name} is {names[0]!r}"
        hint = "the model's outputs come first, then the targets"
        raise InputError(Problem(wrong, place_of(target), hint))
    return names[0], names[1]


TARGET_NAMES: Final = ("target", "targets", "label", "labels", "y_true")
"""A function whose first parameter has such a name takes targets first, as scikit-learn's do."""


DETAILS: Final[Mapping[str, tuple[str, ...]]] = {
    "models": ("channels_last",),
    "datasets": ("class_names", "files", "task"),
    "optimizers": ("needs_closure", "one_by_one"),
    "losses": ("outputs", "predict", "tasks"),
    "metrics": ("direction", "min_classes", "tasks", "unit"),
}
"""What decorators say beside a name, by kind."""
ADAPTERS: Final[Mapping[str, Adapter]] = {
    "models": _model,
    "datasets": _dataset,
    "schedulers": _scheduler,
    "optimizers": _optimizer,
    "losses": _loss,
    "metrics": _metric,
    "augmentations": _augmentation,
    "training_steps": _training_step,
    "training_loops": _training_loop,
}
