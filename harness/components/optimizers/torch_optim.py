"""Any other class of `torch.optim`, by its name: `{name: Adadelta, rho: 0.95}`.

Its options are the parameters of its signature, with torch's types and defaults; their ranges are
checked by torch itself, before anything runs. Torch is imported only for a name that can be a
class's, so that a typo of a registered optimizer costs nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import cache, partial
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, Union, get_args, get_origin, get_type_hints

from pydantic import Field, create_model, model_validator

from harness.components.base import Optimizer, Options
from harness.components.shared.optimizers import NOT_OPTIONS
from harness.core.errors import InputError, Problem

if TYPE_CHECKING:
    import torch
    from torch import nn

HAVE_A_FILE: Final = frozenset({"SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "RAdam"})
"""Classes with a component of their own. Under torch's spelling they are refused, so that one
configuration has one name and one id."""

REFUSED: Final = {
    "LBFGS": "evaluates the loss several times a step, which the training loop does not offer",
    "SparseAdam": "takes sparse gradients only, which no model here has",
    "Muon": "takes matrices only, and every model has biases",
}

OTHERS: Final = ("ASGD", "Adadelta", "Adafactor", "Adamax", "Rprop", *REFUSED)
"""Torch's spelling of what is left, to correct `adadelta` without importing torch. Classes that
torch adds later are found all the same."""


def resolve(name: str) -> Optimizer | None:
    """The record of a `torch.optim` class, or None where torch has no such class.

    Raises InputError for another spelling of a class, and for a class that cannot serve.
    """
    spelled = {other.lower(): other for other in OTHERS}.get(name.lower(), name)
    if spelled in REFUSED:
        raise InputError(f"optimizer: torch.optim.{spelled} cannot serve: it {REFUSED[spelled]}")
    if spelled != name:
        raise InputError(
            Problem(
                f"optimizer: no {name!r} is registered",
                hint=f"did you mean {spelled!r}? A class of torch.optim is spelled as in torch",
            )
        )
    if not name[:1].isupper() or name.lower() in {own.lower() for own in HAVE_A_FILE}:
        return None
    return _record(name)


@cache
def _record(name: str) -> Optimizer | None:
    import torch

    found = getattr(torch.optim, name, None)
    base = torch.optim.Optimizer
    if not (isinstance(found, type) and issubclass(found, base)) or found is base:
        return None
    return Optimizer(
        name=name,
        description=f"torch.optim.{name}",
        reference=f"https://docs.pytorch.org/docs/stable/generated/torch.optim.{name}.html",
        options=_options(found),
        torch_class=name,
        build=partial(_build, found),
    )


def _build(
    cls: type[torch.optim.Optimizer],
    options: Options,
    parameters: Iterable[nn.Parameter],
    lr: float,
) -> torch.optim.Optimizer:
    return cls(parameters, lr=lr, **options.model_dump())  # type: ignore[call-arg]


def _options(cls: type[torch.optim.Optimizer]) -> type[Options]:
    hints = get_type_hints(cls.__init__)
    fields: dict[str, Any] = {
        name: (_plain(hints[name]), _field(cls, parameter.default))
        for name, parameter in inspect.signature(cls).parameters.items()
        if name not in {"params", "lr", *NOT_OPTIONS}
    }

    def accepted_by_torch(options: Options) -> Options:
        import torch

        cls([torch.zeros(1, requires_grad=True)], **options.model_dump())
        return options

    return create_model(
        f"{cls.__name__}Options",
        __base__=Options,
        __module__=__name__,
        __validators__={"accepted_by_torch": model_validator(mode="after")(accepted_by_torch)},  # type: ignore[dict-item]
        **fields,
    )


def _field(cls: type[torch.optim.Optimizer], default: Any) -> Any:
    """The default goes through validation too: torch writes 0 for 0.0, and a trial's id must not
    depend on whether a user spelled the default out."""
    return Field(default, validate_default=True, description=f"as in torch.optim.{cls.__name__}")


def _plain(hint: Any) -> Any:
    """A parameter's type as an experiment file can give it: no tensors, lists for tuples."""
    import torch

    arguments = tuple(_plain(argument) for argument in get_args(hint) if argument != torch.Tensor)
    if get_origin(hint) in (Union, UnionType):
        return Union[arguments]  # noqa: UP007 - built at run time
    if get_origin(hint) is tuple:
        return Annotated[tuple[arguments], Field(strict=False)]  # type: ignore[valid-type]
    return hint
