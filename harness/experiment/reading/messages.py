"""Says in plain words what pydantic found: the rule, the value given, what is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin

import annotated_types
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from harness.core.errors import did_you_mean
from harness.experiment.reading.yaml import Keys

LONGEST_VALUE: Final = 60

_RULES: Final = {
    "missing": "is required",
    "int_type": "must be an integer",
    "int_from_float": "must be an integer",
    "float_type": "must be a number",
    "string_type": "must be text",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "string_too_short": "must not be empty",
    "finite_number": "must be finite",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "less_than": "must be less than {lt:g}",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be one of {expected}",
    "string_pattern_mismatch": "has a form that is not allowed",
    "too_short": "must hold at least {min_length}",
    "too_long": "must hold at most {max_length}",
    "string_too_long": "must have at most {max_length} characters",
}


@dataclass(frozen=True, slots=True)
class Message:
    """at: the way from the value that was validated to the part that is wrong."""

    at: Keys
    rule: str
    hint: str = ""


def shown(value: Any) -> str:
    """A value as an error quotes it, cut where it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"


def of_field(error: ValidationError, field: FieldInfo) -> Iterator[Message]:
    """Messages for one field's value, validated by itself."""
    yield from _merged(error.errors(include_url=False), field, 0)


def of_options(error: ValidationError, fields: Mapping[str, FieldInfo]) -> Iterator[Message]:
    """Messages for a mapping validated by a model with these fields, field by field."""
    groups: dict[Any, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        groups.setdefault(detail["loc"][0] if detail["loc"] else None, []).append(detail)
    for name, details in groups.items():
        if details[0]["type"] == "extra_forbidden":
            yield Message((name,), "unknown option", did_you_mean(str(name), fields))
        elif name in fields:
            yield from _merged(details, fields[name], 1)
        else:
            yield from (Message((), _rule(detail)) for detail in details)


def _merged(details: list[ErrorDetails], field: FieldInfo, skip: int) -> Iterator[Message]:
    """One message a fault. A union reports each of its members: those become one message."""
    items = [detail for detail in details if len(detail["loc"]) > skip]
    if items and _is_union(field.annotation):
        rules = list(dict.fromkeys(_rule(detail) for detail in details))
        at = details[0]["loc"][:skip]
        given = f", given {shown(details[0]['input'])}"
        yield Message(at, " or ".join(rules) + given, allowed(field))
        return
    for detail in items or details:
        at = tuple(detail["loc"])
        given = "" if detail["type"] == "missing" else f", given {shown(detail['input'])}"
        yield Message(at, _rule(detail) + given, _hint(detail, field))


def _is_union(annotation: Any) -> bool:
    """Whether a value may be of several types, besides being absent (None)."""
    members = [member for member in get_args(annotation) if member is not NoneType]
    return get_origin(annotation) in (Union, UnionType) and len(members) > 1


def _rule(detail: ErrorDetails) -> str:
    known = _RULES.get(detail["type"])
    if known:
        return known.format(**detail.get("ctx", {}))
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should be", "must be").replace("Input should", "must")


def _hint(detail: ErrorDetails, field: FieldInfo) -> str:
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        literals = [str(value) for value in get_args(field.annotation) if isinstance(value, str)]
        if literals:
            return did_you_mean(detail["input"], literals)
    if detail["type"] == "string_pattern_mismatch" and not field.examples:
        return field.description or ""
    return allowed(field)


def allowed(field: FieldInfo) -> str:
    """The values a field allows, where it has examples or a range: "allowed: 0 ≤ value < 1"."""
    if field.examples:
        return "allowed: " + ", ".join(str(example) for example in field.examples)
    low = high = ""
    for rule in field.metadata:
        match rule:
            case annotated_types.Gt():
                low = f"{rule.gt:g} < "
            case annotated_types.Ge():
                low = f"{rule.ge:g} ≤ "
            case annotated_types.Lt():
                high = f" < {_bound(rule.lt)}"
            case annotated_types.Le():
                high = f" ≤ {_bound(rule.le)}"
    return f"allowed: {low}value{high}" if low or high else ""


def _bound(number: Any) -> str:
    """A bound as people write it; the one large bound in use is a power of two."""
    return "2³²" if number == 2**32 else f"{number:g}"
