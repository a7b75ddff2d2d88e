"""Makes an optimizer of a user's class or function, or of a package's.

What it wants is found by observing it on a tiny network: whether it builds and steps at all with
these options, whether `step` needs a closure, whether it draws random numbers.
"""

from __future__ import annotations

import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import create_model, model_validator

from harness.components.base import (
    DecayOptions,
    NamedParameter,
    OptimizerBuilder,
    Options,
)
from harness.components.code.identity import is_installed
from harness.components.code.signatures import (
    Signature,
    is_writable,
    option_values,
    parameters,
    read_signature,
)
from harness.components.code.source import line_of, place_of
from harness.components.optimizers.torch_optim import NOT_OPTIONS, SEVERAL_EVALUATIONS
from harness.core.errors import InputError, Problem, did_you_mean
from harness.core.seeding import host_random_states, host_streams_kept
from harness.core.text import kind_of

if TYPE_CHECKING:
    import torch

PARAMETERS: Final = ("params", "parameters")
NAMED_PARAMETERS: Final = ("named_parameters", "named_params")
RATES: Final = ("lr", "learning_rate")
FILLED: Final = (*PARAMETERS, *NAMED_PARAMETERS, *RATES, *NOT_OPTIONS)
"""Parameters of an optimizer that are not its options."""
INTERFACE: Final = ("step", "zero_grad", "param_groups", "state_dict", "load_state_dict")
"""What training uses of an optimizer. A wrapper around one need not derive from torch's class."""
DRAWS: Final = "it draws random numbers, which the trials of a stack would share"
WRITE: Final = (
    "write a function around it, as `@harness.optimizer def mine(named_parameters, lr, …)`, "
    "that returns the optimizer"
)
STEPS: Final = 2
SECOND_ORDER: Final = "does not require grad"
"""Part of torch's message where an optimizer differentiates a gradient again."""
NO_GROUPS: Final = "Tensor.__contains__"
"""Part of torch's message where an optimizer looks a key up in what it takes for a group."""
GROUPS: Final = "if it wants parameter groups of its own"


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What an optimizer does on a tiny network.

    needs_closure: `step` fails without a closure and works with one. draws: it uses torch's global
    random numbers. problem: why it cannot be built, or cannot step; "" if it can.
    """

    needs_closure: bool = False
    draws: bool = False
    problem: str = ""


def make_optimizer(name: str, target: Any, details: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the `Optimizer` that a class or a function is, but for its description.

    Raises InputError for a constructor that wants what the harness does not have.
    """
    _check_parameters(name, target)
    signature = read_signature(target, name, filled=FILLED)
    build = _builder(name, target)
    observed: dict[str, Behaviour] = {}

    def observe(options: Options) -> Behaviour:
        key = repr(option_values(options))
        if key not in observed:
            observed[key] = _observe(build, options, target)
        return observed[key]

    def one_by_one(options: Options) -> str:
        behaviour = observe(options)
        if behaviour.needs_closure:
            return SEVERAL_EVALUATIONS
        return DRAWS if behaviour.draws else ""

    is_of_torch = str(getattr(target, "__module__", "")).startswith("torch.optim.")
    return {
        "options": _options(name, target, signature, observe),
        "build": build,
        "torch_class": target.__name__ if is_of_torch else "",
        "needs_closure": lambda options: observe(options).needs_closure,
        "one_by_one": one_by_one,
        **details,
    }


def _check_parameters(name: str, target: Any) -> None:
    """Raises InputError for a parameter that neither the harness nor a file can fill."""
    taken = parameters(target, name)
    if not any(
        parameter.name in (*PARAMETERS, *NAMED_PARAMETERS)
        or parameter.kind is parameter.VAR_POSITIONAL
        for parameter in taken.values()
    ):
        wanted = [p for p in taken.values() if p.default is p.empty and p.name not in FILLED]
        needed = [p.name for p in wanted if p.kind is not p.VAR_KEYWORD]
        names = f"needs {', '.join(needed)}, and " if needed else ""
        wrong = f"{name} {names}takes no `params` or `named_parameters` to update"
        raise InputError(Problem(wrong, where=place_of(target), hint=WRITE))
    for parameter in taken.values():
        is_open = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.name in FILLED or is_open or parameter.default is not parameter.empty:
            continue
        if not is_writable(target, parameter):
            wrong = f"{name} needs {parameter.name!r}, which an experiment file cannot write"
            raise InputError(Problem(wrong, where=place_of(target), hint=WRITE))


def _builder(name: str, target: Any) -> OptimizerBuilder:
    taken = parameters(target, name)

    def build(
        options: Options, named_parameters: Iterable[NamedParameter], lr: float
    ) -> torch.optim.Optimizer:
        named = list(named_parameters)
        plain = [parameter for _, parameter in named]
        settings = option_values(options, without=DecayOptions)
        settings |= {key: named for key in NAMED_PARAMETERS if key in taken}
        settings |= {key: plain for key in PARAMETERS if key in taken}
        settings |= {key: lr for key in RATES if key in taken}
        is_given = any(key in taken for key in (*PARAMETERS, *NAMED_PARAMETERS))
        optimizer: torch.optim.Optimizer = target(*(() if is_given else (plain,)), **settings)
        missing = [key for key in INTERFACE if not hasattr(optimizer, key)]
        if missing:
            wrong = f"{name} returned {kind_of(optimizer)}, and not a torch.optim.Optimizer"
            raise InputError(Problem(wrong, where=place_of(target)))
        return optimizer

    return build


def _options(
    name: str, target: Any, signature: Signature, observe: Callable[[Options], Behaviour]
) -> type[Options]:
    """Returns the options of the signature, which an optimizer on a tiny network must accept."""

    def accepted(options: Options) -> Options:
        for extra in options.model_extra or {}:
            if not _is_read(target, extra):
                hint = did_you_mean(extra, [*type(options).model_fields])
                raise ValueError(f"{name} does not read an option {extra!r}; {hint}")
        if problem := observe(options).problem:
            raise ValueError(f"{name}: {problem}")
        return options

    decays = "weight_decay" in signature.options.model_fields
    bases = (DecayOptions, signature.options) if decays else signature.options
    return create_model(
        signature.options.__name__,
        __base__=bases,
        __validators__={"accepted": model_validator(mode="after")(accepted)},  # type: ignore[dict-item]
    )


def _is_read(target: Any, option: str) -> bool:
    """Whether the code of a class that takes any keyword argument mentions this one. A misspelt
    option would be stored with the others, and change nothing."""
    classes = inspect.getmro(target) if inspect.isclass(target) else ()
    modules = {cls.__module__ for cls in classes if not cls.__module__.startswith("torch.")}
    try:
        sources = [inspect.getsource(sys.modules[name]) for name in modules - {"builtins"}]
    except (OSError, TypeError):
        return True
    pattern = rf"['\"]{re.escape(option)}['\"]|\b{re.escape(option)}\s*[:=]"
    return not sources or any(re.search(pattern, source) for source in sources)


def _observe(build: OptimizerBuilder, options: Options, target: Any) -> Behaviour:
    import torch

    first: Exception | None = None
    with warnings.catch_warnings(), torch.random.fork_rng([]), torch.enable_grad():
        warnings.simplefilter("ignore")
        for needs_closure in (False, True):
            torch.manual_seed(0)
            try:
                with host_streams_kept():
                    return Behaviour(needs_closure, _train(build, options, needs_closure))
            except InputError:
                raise
            except Exception as error:  # noqa: BLE001 - whatever a user's code raises
                first = first or error
    return Behaviour(problem=_explain(first, target, options))


def _train(build: OptimizerBuilder, options: Options, needs_closure: bool) -> bool:
    """Trains a tiny network for a few steps. Returns whether that draws random numbers."""
    import torch
    from torch import nn

    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    inputs = torch.randn(5, 3)
    optimizer = build(options, model.named_parameters(), 0.01)
    if callable(getattr(optimizer, "train", None)):
        optimizer.train()  # type: ignore[attr-defined]

    @torch.enable_grad()
    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = model(inputs).square().mean()
        loss.backward()
        return loss.detach()

    before = torch.get_rng_state(), host_random_states()
    for _ in range(STEPS):
        evaluate()
        optimizer.step(evaluate) if needs_closure else optimizer.step()  # type: ignore[arg-type]
    return not torch.equal(before[0], torch.get_rng_state()) or before[1] != host_random_states()


def _explain(error: Exception | None, target: Any, options: Options) -> str:
    """Returns why an optimizer does not work, with the line of a user's own file. A class of a
    package that fails with its own defaults may want parameter groups."""
    message = str(error).strip().partition("\n")[0] or type(error).__name__
    if SECOND_ORDER in message:
        return "it differentiates gradients again, for which training keeps no graph"
    if NO_GROUPS in message:
        return f"it wants parameter groups of its own: {WRITE}"
    try:
        file = Path(inspect.getfile(inspect.unwrap(target)))
    except (TypeError, OSError):
        return message
    if error is None or is_installed(file):
        return message if options.model_fields_set else f"{message}; {GROUPS}, {WRITE}"
    place = line_of(error, file.parent)
    return f"{message} ({place})" if place else message
