"""Options of a component from the signature of a class or a function.

Each parameter becomes an option with its type, its default and, from the docstring, its
description. `Annotated[float, Field(gt=0)]` sets limits. Parameters that the harness fills itself
(the parameters of a model, the learning rate, what is known of the data) are no options.
"""

from __future__ import annotations

import inspect
import re
import typing
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from math import isfinite
from types import UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, create_model
from pydantic.fields import FieldInfo

from harness.components.base import DataInfo, Options
from harness.components.code.source import place_of
from harness.core.errors import InputError, Problem, did_you_mean

PLACEHOLDERS: Final = ("features", "classes", "outputs", "channels", "shape", "tokens")
"""Names that stand for what the data set says: "$features" is `DataInfo.features`."""
PLACEHOLDER_PATTERN: Final = rf"^\$({'|'.join(PLACEHOLDERS)})$"

LISTS: Final = Field(strict=False)
"""A tuple that takes a list: files have no tuples."""
PLAIN: Final = (bool, int, float, str, type(None))
UNWRITTEN: Final = "null stands for a default that files and ids cannot hold, as infinity"
"""Marks an option that is passed on only where it is not null."""
RESERVED: Final = "name"
"""A component's own name stands under this key, beside its options."""


@dataclass(frozen=True, slots=True)
class Signature:
    """What a class or a function takes.

    options: its options, a class of pydantic fields. takes_data: the parameters that take the
    `DataInfo`.
    """

    options: type[Options]
    takes_data: tuple[str, ...]


def read_signature(
    of: Callable[..., Any],
    name: str,
    filled: Collection[str] = (),
    placeholders: Collection[str] = (),
    base: type[Options] = Options,
) -> Signature:
    """Returns what a class or a function takes.

    filled: parameters that the caller fills. placeholders: names that may stand for a value,
    as "$features". base: the options that every component of the kind has. Raises InputError for
    a parameter that no option can set.
    """
    hints, descriptions = _hints(of), _descriptions(of)
    fields: dict[str, Any] = {}
    takes_data: list[str] = []
    for parameter in parameters(of, name).values():
        hint = hints.get(parameter.name, parameter.empty)
        if parameter.kind is parameter.VAR_KEYWORD:
            base = _open(base)
        elif parameter.kind is parameter.VAR_POSITIONAL or parameter.name in filled:
            continue
        elif _is_data_info(hint, parameter.annotation):
            takes_data.append(parameter.name)
        elif _can_be_set(parameter, name) and _is_plain(parameter.default):
            description = descriptions.get(parameter.name, "")
            fields[parameter.name] = _field(parameter, hint, description, placeholders)
    with warnings.catch_warnings():
        # A parameter may have the name of a method of pydantic's models, as `copy`.
        warnings.simplefilter("ignore", UserWarning)
        options = create_model(f"{_camel(name)}Options", __base__=base, **fields)
    return Signature(options, tuple(takes_data))


def _open(base: type[Options]) -> type[Options]:
    """Returns options that also take keyword arguments of any other name."""

    class OpenOptions(base):  # type: ignore[valid-type, misc]
        model_config = ConfigDict(extra="allow")

    return OpenOptions


def parameters(of: Callable[..., Any], name: str) -> Mapping[str, inspect.Parameter]:
    """Returns the parameters of a class or a function. Raises InputError if they are unknown."""
    try:
        return inspect.signature(of).parameters
    except (TypeError, ValueError) as error:
        raise InputError(Problem(f"{name}: its parameters cannot be read: {error}")) from error


def refuse_taken(
    given: Collection[str], base: type[Options], owner: str, target: Callable[..., Any]
) -> None:
    """Raises InputError for a parameter with the name of an option that its whole kind has.

    given: the parameters of a class or a function. owner: of the option, "net: every data set".
    """
    taken = next((option for option in base.model_fields if option in given), None)
    if taken is not None:
        rule = f"{owner} has an option {taken!r}: give the parameter another name"
        raise InputError(Problem(rule, place_of(target)))


def option_values(options: Options, without: type[Options] = Options) -> dict[str, Any]:
    """Returns the values of options by name, those of no declared name included.

    without: the options that the whole kind has, which are left out.
    """
    declared = {
        name: getattr(options, name)
        for name, field in type(options).model_fields.items()
        if name not in without.model_fields
        and (getattr(options, name) is not None or UNWRITTEN not in field.metadata)
    }
    return declared | (options.model_extra or {})


def arguments(
    signature: Signature, options: Options, info: DataInfo | None = None
) -> dict[str, Any]:
    """Returns the keyword arguments of a call: the options, and the `DataInfo` if it is wanted."""
    values = option_values(options)
    if info is None:
        return values
    filled = {name: substitute(value, info) for name, value in values.items()}
    return filled | dict.fromkeys(signature.takes_data, info)


def is_writable(of: Callable[..., Any], parameter: inspect.Parameter) -> bool:
    """Whether an experiment file can write a value of a parameter's type, as far as that is
    known: it cannot write a class, a function, or a module."""
    hint = _hints(of).get(parameter.name, parameter.empty)
    if hint in (parameter.empty, Any):
        return True
    return get_origin(hint) is not type and _lenient(hint) is not Any


def substitute(value: Any, info: DataInfo) -> Any:
    """Returns a value with placeholders replaced by what is known of the data set."""
    if isinstance(value, str) and re.match(PLACEHOLDER_PATTERN, value):
        return getattr(info, value[1:])
    if isinstance(value, (list, tuple)):
        return type(value)(substitute(item, info) for item in value)
    return value


def _can_be_set(parameter: inspect.Parameter, name: str) -> bool:
    """Whether an option can set a parameter. Raises InputError if nothing else does either."""
    positional = parameter.kind is parameter.POSITIONAL_ONLY
    if not positional and parameter.name != RESERVED and not parameter.name.startswith("_"):
        return True
    if parameter.default is parameter.empty:
        reason = "is given by position only" if positional else "has a name that no option can have"
        rule = f"{name}: parameter {parameter.name!r} {reason}"
        raise InputError(Problem(rule, hint="give it a default, or write a function around it"))
    return False


def _field(
    parameter: inspect.Parameter, hint: Any, description: str, placeholders: Collection[str]
) -> tuple[Any, FieldInfo]:
    annotation = _type(hint, parameter.default)
    if placeholders and annotation is not Any:
        pattern = rf"^\$({'|'.join(placeholders)})$"
        placeholder = Annotated[str, StringConstraints(pattern=pattern)]
        annotation = Union[annotation, placeholder]  # noqa: UP007 - built at run time
    elif placeholders:
        annotation = Annotated[
            Any, AfterValidator(partial(_known_placeholder, tuple(placeholders)))
        ]
    default = ... if parameter.default is parameter.empty else parameter.default
    if isinstance(default, float) and not isfinite(default):
        absent: Any = Field(None, description=description)
        return Annotated[annotation | None, UNWRITTEN], absent
    return annotation, Field(default, description=description)


def _known_placeholder(placeholders: Collection[str], value: Any) -> Any:
    """Returns a value of any type. Raises ValueError for an unknown placeholder."""
    if isinstance(value, str) and re.match(r"^\$\w+$", value) and value[1:] not in placeholders:
        raise ValueError(
            f"stands for nothing ({did_you_mean(value, [f'${p}' for p in placeholders])})"
        )
    return value


def _type(hint: Any, default: Any) -> Any:
    """Returns the type of an option: its annotation, else that of its default, else any."""
    if hint is not inspect.Parameter.empty:
        return _lenient(hint)
    types = {bool: bool, int: int | float, float: float, str: str}
    return types.get(type(default), Any)


def _lenient(hint: Any) -> Any:
    """Returns a type that a file can write. Lists stand for tuples. What a file cannot write, as a
    tensor or a function, is left out of a union; else any value is passed on as it is."""
    members = get_args(hint)
    if get_origin(hint) is Annotated:
        return Annotated[_lenient(members[0]), *members[1:]]
    if get_origin(hint) in (Union, UnionType):
        known = [member for member in map(_lenient, members) if member is not Any]
        return Union[tuple(known)] if known else Any  # noqa: UP007 - built at run time
    if get_origin(hint) is tuple:
        items: Any = tuple(m if m is ... else _lenient(m) for m in members)
        return Annotated[tuple[items], LISTS]
    try:
        TypeAdapter(hint).json_schema()
    except Exception:  # noqa: BLE001 - of a type that no file can write, pydantic raises many kinds
        return Any
    return hint


def _hints(of: Callable[..., Any]) -> Mapping[str, Any]:
    """Returns the annotations of parameters, those that can be evaluated."""
    target = of.__init__ if inspect.isclass(of) else of
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation may name what exists only for type checkers
        annotations = getattr(target, "__annotations__", {})
        return {name: hint for name, hint in annotations.items() if not isinstance(hint, str)}


def _descriptions(of: Callable[..., Any]) -> dict[str, str]:
    """Returns what a docstring says of each parameter: "width: units of the hidden layer"."""
    text = inspect.getdoc(of) or ""
    if inspect.isclass(of):
        text += "\n" + (inspect.getdoc(of.__init__) or "")
    pattern = r"^[ \t]*(\w+)(?:[ \t]*\([^)\n]*\))?[ \t]*:[ \t]+(\S.*)$"
    return {match[1]: match[2].strip() for match in re.finditer(pattern, text, re.MULTILINE)}


def _is_data_info(hint: Any, annotation: Any) -> bool:
    """Whether a parameter takes the `DataInfo`, its annotation written as text or not."""
    plain = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    written = annotation.strip("'\"") if isinstance(annotation, str) else ""
    return plain is DataInfo or written.rpartition(".")[2] == DataInfo.__name__


def _is_plain(value: Any) -> bool:
    """Whether a file can write a value, or there is none. A parameter with another default, as a
    class of layers, keeps it."""
    if value is inspect.Parameter.empty:
        return True
    if isinstance(value, (list, tuple)):
        return all(map(_is_plain, value))
    return isinstance(value, PLAIN)


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in re.findall(r"\w+", name)) or "Own"
