"""Checks single values against the declared fields, each by itself, so that one bad value hides
no other."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Final

from pydantic import TypeAdapter, ValidationError

from harness.experiment.fields import Fields
from harness.experiment.reading import messages
from harness.experiment.reading.document import Faults
from harness.experiment.reading.yaml import Keys


class _Invalid:
    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = _Invalid()
"""What a check returns for a value whose fault it has reported."""


@cache
def _adapter(fields: type[Fields], name: str) -> TypeAdapter[Any]:
    field = fields.model_fields[name]
    annotated: Any = Annotated[field.annotation, field]
    return TypeAdapter(annotated, config=fields.model_config)


def value(fields: type[Fields], name: str, given: Any, keys: Keys, faults: Faults) -> Any:
    """The validated value of one field, or INVALID after reporting what is wrong at `keys`."""
    try:
        return _adapter(fields, name).validate_python(given)
    except ValidationError as error:
        for message in messages.of_field(error, fields.model_fields[name]):
            faults.add((*keys, *message.at), message.rule, message.hint)
        return INVALID


def mapping(fields: type[Fields], given: Any, keys: Keys, faults: Faults) -> dict[str, Any] | None:
    """The validated values of a mapping, defaults filled in; None after reporting faults."""
    if not isinstance(given, Mapping):
        faults.add(keys, f"must be a mapping, given {messages.shown(given)}")
        return None
    values = members(fields, given, keys, faults)
    for name, field in fields.model_fields.items():
        if name in given:
            continue
        if field.is_required():
            faults.add(keys, f"{name} is missing")
            values[name] = INVALID
        else:
            values[name] = field.default
    sound = INVALID not in values.values() and set(given) <= set(fields.model_fields)
    return values if sound else None


def members(
    fields: type[Fields], given: Mapping[str, Any], keys: Keys, faults: Faults
) -> dict[str, Any]:
    """The validated values of the known keys that are given; faults of the others reported."""
    values: dict[str, Any] = {}
    for name, item in given.items():
        if name in fields.model_fields:
            values[name] = value(fields, name, item, (*keys, name), faults)
        else:
            faults.unknown((*keys, name), fields.model_fields)
    return values
