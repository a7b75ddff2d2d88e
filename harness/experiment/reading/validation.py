"""Validates single values with pydantic, each by itself, so that one bad value hides no other.

A problem says in plain words which rule is broken, what was given and what is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from harness.components.base import Options
from harness.core.errors import did_you_mean
from harness.experiment.fields import FIGURE_PATTERN, Fields
from harness.experiment.reading.file import ExperimentFile
from harness.experiment.reading.hints import metric_hint, value_hint
from harness.experiment.reading.yaml import Keys
from harness.experiment.trial import TRIAL_FIELDS

LONGEST_VALUE: Final = 60

_RULES: Final = {
    "missing": "is required",
    "extra_forbidden": "unknown field",
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
    "string_pattern_mismatch": "is not valid",
    "too_short": "must have at least {min_length}",
    "too_long": "must have at most {max_length}",
    "string_too_long": "must have at most {max_length} characters",
}


INVALID: Final = object()
"""Stands for a value whose problem is reported already."""


@cache
def _adapter(fields: type[Fields], name: str) -> TypeAdapter[Any]:
    info = fields.model_fields[name]
    annotated: Any = Annotated[info.annotation, info]
    return TypeAdapter(annotated, config=fields.model_config)


def validate(fields: type[Fields], name: str, value: Any, keys: Keys, file: ExperimentFile) -> Any:
    """Returns the validated value of one field, or INVALID after reporting the problem."""
    try:
        return _adapter(fields, name).validate_python(value)
    except ValidationError as error:
        for message in _merged(error.errors(include_url=False), fields.model_fields[name], 0):
            file.report((*keys, *message.at), message.rule, message.hint)
        return INVALID


def validate_entries(
    fields: type[Fields], values: Mapping[str, Any], keys: Keys, file: ExperimentFile
) -> dict[str, Any]:
    """Returns the validated values of the known keys. Reports invalid values and unknown keys."""
    validated: dict[str, Any] = {}
    for name, value in values.items():
        if name in fields.model_fields:
            validated[name] = validate(fields, name, value, (*keys, name), file)
        else:
            file.report_unknown((*keys, name), fields.model_fields)
    return validated


def validate_mapping(
    fields: type[Fields], value: Any, keys: Keys, file: ExperimentFile, example: str = ""
) -> dict[str, Any] | None:
    """Returns the validated values of a mapping, defaults filled in; None after reporting what is
    wrong.

    example: the hint where a value is missing.
    """
    if not isinstance(value, Mapping):
        file.report(keys, f"must be a mapping, given {shown(value)}")
        return None
    validated = validate_entries(fields, value, keys, file)
    for name, info in fields.model_fields.items():
        if name not in value and info.is_required():
            file.report(keys, f"{name} is missing", example)
            validated[name] = INVALID
        validated.setdefault(name, info.default)
    valid = INVALID not in validated.values() and set(value) <= set(fields.model_fields)
    return validated if valid else None


def read_list(file: ExperimentFile, name: str) -> list[Any]:
    """Returns a list of the top level; an empty one after reporting that it is none."""
    value = file.values.get(name)
    if value is None or isinstance(value, list):
        return value or []
    file.report((name,), f"must be a list, given {shown(value)}")
    return []


@dataclass(frozen=True, slots=True)
class Message:
    """A broken rule. at: the path from the validated value to the part that is wrong."""

    at: Keys
    rule: str
    hint: str = ""


def option_messages(
    error: ValidationError, options: type[Options], owner: str
) -> Iterator[Message]:
    """Yields messages for a mapping that the class of options refused, option by option.

    owner: whose options they are: "optimizer 'adam'".
    """
    fields = options.model_fields
    by_name: dict[Any, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_name.setdefault(detail["loc"][0] if detail["loc"] else None, []).append(detail)
    for name, details in by_name.items():
        if name not in fields and details[0]["type"] == "extra_forbidden":
            hint = did_you_mean(str(name), fields)
            if name in TRIAL_FIELDS:
                hint = f"{name} is a trial field, apart from the {owner.partition(' ')[0]}"
            yield Message((name,), f"{owner} has no option {name!r}", hint)
        elif name in fields:
            yield from _merged(details, fields[name], 1)
        else:
            yield from (Message((), _rule(detail)) for detail in details)


def _merged(details: list[ErrorDetails], info: FieldInfo, skip: int) -> Iterator[Message]:
    """Yields one message a fault. A union reports each of its members: they become one message.

    skip: how many leading parts of a location name the field itself.
    """
    items = [detail for detail in details if len(detail["loc"]) > skip]
    members = [member for member in get_args(info.annotation) if member is not NoneType]
    if items and get_origin(info.annotation) in (Union, UnionType) and len(members) > 1:
        rules = " or ".join(dict.fromkeys(map(_rule, _without_placeholders(details))))
        rule = f"{rules}, given {shown(details[0]['input'])}"
        yield Message(details[0]["loc"][:skip], rule, allowed(info))
        return
    for detail in items or details:
        named = detail["type"] in ("missing", "extra_forbidden")
        suffix = "" if named else f", given {shown(detail['input'])}"
        yield Message(tuple(detail["loc"]), _rule(detail) + suffix, _hint(detail, info))


def _without_placeholders(details: list[ErrorDetails]) -> list[ErrorDetails]:
    """Leaves out that a value is none of "$features", …, which any option of a model may be."""
    rest = [d for d in details if not str(d.get("ctx", {}).get("pattern", "")).startswith(r"^\$(")]
    return rest or details


def _rule(detail: ErrorDetails) -> str:
    known = _RULES.get(detail["type"])
    if known:
        return known.format(**detail.get("ctx", {}))
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should be", "must be").replace("Input should", "must")


def _hint(detail: ErrorDetails, info: FieldInfo) -> str:
    given = detail["input"]
    if detail["type"] == "extra_forbidden":
        return did_you_mean(str(detail["loc"][-1]), _nested_fields(info.annotation))
    if detail["type"] in ("float_type", "int_type") and (hint := value_hint(given, number=True)):
        return hint
    if detail.get("ctx", {}).get("pattern") == FIGURE_PATTERN:
        return metric_hint(given, figures=True)
    if detail["type"] == "literal_error" and isinstance(detail["input"], str):
        literals = [value for value in get_args(info.annotation) if isinstance(value, str)]
        if literals:
            return did_you_mean(detail["input"], literals)
    if detail["type"] == "string_pattern_mismatch" and not info.examples:
        return info.description or ""
    return allowed(info)


def _nested_fields(annotation: Any) -> set[str]:
    """Returns the fields of the models that a type is made of."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        inner = (info.annotation for info in annotation.model_fields.values())
        return set(annotation.model_fields).union(*map(_nested_fields, inner))
    return set().union(*map(_nested_fields, get_args(annotation)))


def allowed(info: FieldInfo) -> str:
    """Returns the values that a field allows, where it declares examples or limits: "allowed:
    0 ≤ value < 1"."""
    if info.examples:
        return "allowed: " + ", ".join(str(example) for example in info.examples)
    low = high = ""
    for rule in info.metadata:
        match rule:
            case annotated_types.Gt():
                low = f"{rule.gt:g} < "
            case annotated_types.Ge():
                low = f"{rule.ge:g} ≤ "
            case annotated_types.Lt():
                high = " < 2³²" if rule.lt == 2**32 else f" < {rule.lt:g}"
            case annotated_types.Le():
                high = f" ≤ {rule.le:g}"
    return f"allowed: {low}value{high}" if low or high else ""


def shown(value: Any) -> str:
    """Returns a value as an error quotes it, cut where it is long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
