"""Any other class of `torch.optim`, by its name: `{name: Adadelta, rho: 0.95}`.

The options are the parameters of the class, with torch's types and defaults. torch itself checks
their ranges, before anything runs. torch is imported only for a name that could be a class, so that
a misspelt name of a registered optimizer is reported at once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import cache
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model, model_validator

from harness.components.base import DecayOptions, NamedParameter, Optimizer, Options
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    import torch

REGISTERED: Final = frozenset({"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam"})
"""Classes with a registered component. They are refused under torch's name, so that a
configuration has one name and one id."""

UNSUPPORTED: Final = {
    "SparseAdam": "requires sparse gradients, which no model here has",
    "Muon": "supports matrices only, and every model has biases",
}

OTHERS: Final = ("ASGD", "Adadelta", "Adafactor", "Adamax", "LBFGS", "Rprop", *UNSUPPORTED)
"""The other classes in torch's spelling, to correct `adadelta` without importing torch. Classes
that later versions of torch add are included."""

SEVERAL_EVALUATIONS: Final = "it evaluates the loss several times for each update"
"""Why an optimizer with a closure does not train in a stack."""

NOT_OPTIONS: Final[Mapping[str, str]] = {
    "foreach": "chooses an implementation",
    "fused": "chooses an implementation",
    "capturable": "chooses an implementation",
    "differentiable": "chooses an implementation",
    "maximize": "training always minimises its loss",
}
"""Parameters of `torch.optim` classes that are not options of any component, with the reason."""


def resolve(name: str) -> Optimizer | None:
    """Returns the component of a `torch.optim` class, or None if torch has no such class.

    Raises InputError for a misspelt or unsupported class.
    """
    spelled = {other.lower(): other for other in OTHERS}.get(name.lower(), name)
    if spelled in UNSUPPORTED:
        raise InputError(
            f"optimizer: torch.optim.{spelled} is not supported: it {UNSUPPORTED[spelled]}"
        )
    if spelled != name:
        raise InputError(
            Problem(
                f"optimizer: no {name!r} is registered",
                hint=f"did you mean {spelled!r}? A class of torch.optim is spelled as in torch",
            )
        )
    if not name[:1].isupper() or name.lower() in {own.lower() for own in REGISTERED}:
        return None
    return _component(name)


@cache
def _component(name: str) -> Optimizer | None:
    import torch

    cls = getattr(torch.optim, name, None)
    base = torch.optim.Optimizer
    if not (isinstance(cls, type) and issubclass(cls, base)) or cls is base:
        return None

    def build(
        options: Options, named_parameters: Iterable[NamedParameter], lr: float
    ) -> torch.optim.Optimizer:
        return cls(named_parameters, lr=lr, **_settings(options))  # type: ignore[call-arg]

    return Optimizer(
        name=name,
        description=f"torch.optim.{name}",
        reference=f"https://docs.pytorch.org/docs/stable/generated/torch.optim.{name}.html",
        options=_options(cls),
        torch_class=name,
        build=build,
        needs_closure=lambda _: name == "LBFGS",
        one_by_one=lambda _: SEVERAL_EVALUATIONS if name == "LBFGS" else "",
    )


def _settings(options: Options) -> dict[str, Any]:
    return options.settings() if isinstance(options, DecayOptions) else options.model_dump()


def _options(cls: type[torch.optim.Optimizer]) -> type[Options]:
    hints = get_type_hints(cls.__init__)
    description = f"as in torch.optim.{cls.__name__}"
    # Defaults are validated too. torch writes 0 for 0.0, and a trial's id must not depend on
    # whether a user wrote the default.
    fields: dict[str, Any] = {
        name: (
            _plain_type(hints[name]),
            Field(parameter.default, validate_default=True, description=description),
        )
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in {"params", "lr", *NOT_OPTIONS}
    }

    def accepted_by_torch(options: Options) -> Options:
        import torch

        cls([torch.zeros(1, requires_grad=True)], **_settings(options))
        return options

    return create_model(
        f"{cls.__name__}Options",
        __base__=DecayOptions if "weight_decay" in fields else Options,
        __module__=__name__,
        __validators__={"accepted_by_torch": model_validator(mode="after")(accepted_by_torch)},  # type: ignore[dict-item]
        **fields,
    )


def _plain_type(hint: Any) -> Any:
    """Returns a parameter's type for an experiment file: without tensors, and lists for tuples."""
    import torch

    arguments = tuple(
        _plain_type(argument) for argument in get_args(hint) if argument != torch.Tensor
    )
    if get_origin(hint) in (Union, UnionType):
        return Union[arguments]  # noqa: UP007 - built at run time
    if get_origin(hint) is tuple:
        return Annotated[tuple[arguments], Field(strict=False)]  # type: ignore[valid-type]
    return hint
