"""The JSON Schema of experiment files, for completion and checks in an editor.

    python -m harness.experiment.schema                     prints it
    python -m harness.experiment.schema --write [PATH]      writes it (experiments/schema.json)
    python -m harness.experiment.schema mine.yaml …         with the components of its own code

The schema derives from the declared fields and the registered components. An editor finds it by the
first line of a file: `# yaml-language-server: $schema=schema.json`. It holds no rules across fields
(whether a loss fits a data set, say): loading a file checks those.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from harness.components.base import KINDS, Component
from harness.components.registry import named_components, resolves
from harness.core.errors import HarnessError
from harness.experiment.fields import (
    COMPONENT_KINDS,
    ExpectFields,
    FileFields,
    SearchFields,
    SkipFields,
    TrialFields,
)
from harness.experiment.loading import load
from harness.experiment.trial import (
    COMPONENT_FIELDS,
    COMPONENT_LIST_FIELDS,
    NO_AUGMENTATION,
    TRIAL_FIELDS,
)

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEFAULT_PATH: Final = Path("experiments/schema.json")
CLASS_NAME: Final = "^[A-Z][A-Za-z0-9_]*$"
"""A kind that resolves names beyond the registered ones takes names of classes."""
REFERENCE: Final = "^[^:]+:[A-Za-z_][A-Za-z0-9_.]*$"
"""Code is named by its place: "my_net.py:Net"."""


def schema() -> Schema:
    """Returns the whole schema, draft 2020-12."""
    definitions: Schema = {}
    for kind in KINDS:
        definitions |= _kind(kind)
    definitions |= {f"field.{name}": value for name, value in _trial_values().items()}
    properties = _properties(FileFields)
    properties["trial"] |= _section(lambda value: value)
    definitions["axes"] = _section(_axis)
    axes = {"$ref": "#/$defs/axes"}
    several = {"type": "array", "items": axes, "minItems": 1}
    properties["grid"]["anyOf"] = [axes, several, {"type": "null"}]
    definitions["condition"] = _section(_condition)
    condition = {"$ref": "#/$defs/condition"}
    properties["skip"]["items"] = _object(SkipFields, when=condition)
    properties["expect"]["items"] = _object(ExpectFields, where=condition)
    properties["search"]["anyOf"] = [_object(SearchFields), {"type": "null"}]
    for name in ("trial", "skip", "expect"):  # an empty section counts as absent
        properties[name]["type"] = [properties[name]["type"], "null"]
    return {
        "$schema": DIALECT,
        "title": "Experiment file of the harness",
        "type": "object",
        "additionalProperties": False,
        "properties": properties,
        "$defs": definitions,
    }


def text() -> str:
    """Returns the content of the schema file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _kind(kind: str) -> Schema:
    """Returns a definition for each component of a kind, and one for any of them."""
    known = named_components(kind)
    definitions: Schema = {}
    for component in known.values():
        definitions |= _component(component)
    members: list[Schema] = [{"enum": list(known)}] if known else [{"type": "string"}]
    members += [{"$ref": f"#/$defs/{kind}.{name}"} for name in known]
    other = f"{REFERENCE}|{CLASS_NAME}" if resolves(kind) else REFERENCE
    name = {"type": "string", "pattern": other}
    members += [name, {"type": "object", "properties": {"name": name}, "required": ["name"]}]
    return definitions | {kind: {"anyOf": members}}


def _component(component: Component) -> Schema:
    place = f"{component.kind}.{component.name}"
    options, nested = _generated(component.options, f"#/$defs/{place}.{{model}}")
    whole = {
        "type": "object",
        "description": component.description,
        "properties": {"name": {"const": component.name}, **options},
        "required": ["name"],
        "additionalProperties": False,
    }
    return {place: whole, **{f"{place}.{name}": value for name, value in nested.items()}}


def _trial_values() -> Schema:
    """Returns the schema of each trial field and of each dotted option."""
    values = _properties(TrialFields)
    for name, kind in COMPONENT_KINDS.items():
        component = {"$ref": f"#/$defs/{kind}"}
        if name in COMPONENT_LIST_FIELDS:
            several = {"type": "array", "items": component, "minItems": 1}
            values[name] |= {"anyOf": [{"const": NO_AUGMENTATION}, component, several]}
        else:
            values[name] |= component
    metric_names = {"enum": list(named_components("metrics"))}
    values["metrics"]["anyOf"][0]["items"] = metric_names
    for name, kind in COMPONENT_FIELDS.items():
        for option, choices in _options(kind).items():
            values[f"{name}.{option}"] = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return values


def _options(kind: str) -> dict[str, list[Schema]]:
    """Returns every option of the components of a kind, with each distinct schema that it has.
    Defaults and descriptions are left out, as they differ between components."""
    options: dict[str, list[Schema]] = {}
    for component in named_components(kind).values():
        template = f"#/$defs/{kind}.{component.name}.{{model}}"
        for option, value in _generated(component.options, template)[0].items():
            bare = {
                k: v
                for k, v in value.items()
                if k not in {"default", "description", "not_in_id", "file"}
            }
            if bare not in options.setdefault(option, []):
                options[option].append(bare)
    return options


def _section(of: Callable[[Schema], Schema]) -> Schema:
    """Returns the schema of a mapping of trial fields and dotted options. of: makes the schema of
    an entry from that of the field's value."""
    names = [*TRIAL_FIELDS, *(name for name in _trial_values() if "." in name)]
    mapping: Schema = {
        "type": "object",
        "properties": {name: of({"$ref": f"#/$defs/field.{name}"}) for name in names},
        "additionalProperties": False,
    }
    unlisted = [name for name, kind in COMPONENT_FIELDS.items() if resolves(kind)]
    if unlisted:
        mapping["patternProperties"] = {rf"^({'|'.join(unlisted)})\.[A-Za-z0-9_]+$": of({})}
    return mapping


def _axis(value: Schema) -> Schema:
    return {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}


def _condition(value: Schema) -> Schema:
    return {"anyOf": [value, {"type": "array", "items": value, "minItems": 1}]}


class _Untitled(GenerateJsonSchema):
    """Pydantic's generator without titles, which repeat the fields' names."""

    def field_title_should_be_set(self, schema: Any) -> bool:  # noqa: ARG002 - pydantic's signature
        return False


def _generated(model: type[BaseModel], template: str = "#/$defs/{model}") -> tuple[Schema, Schema]:
    """Returns the schemas of a model's fields, and the definitions that they refer to."""
    mapping = model.model_json_schema(ref_template=template, schema_generator=_Untitled)
    return mapping.get("properties", {}), mapping.get("$defs", {})


def _properties(model: type[BaseModel]) -> Schema:
    return _generated(model)[0]


def _object(model: type[BaseModel], **replaced: Schema) -> Schema:
    """Returns the schema of a mapping with a model's fields. replaced: schemas of some fields;
    their descriptions stay."""
    properties = _properties(model)
    for name, value in replaced.items():
        properties[name] = {"description": properties[name].get("description", "")} | value
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    mapping = {"type": "object", "additionalProperties": False, "properties": properties}
    return mapping | ({"required": required} if required else {})


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the schema, or writes it."""
    parser = argparse.ArgumentParser(
        prog="python -m harness.experiment.schema",
        description="Print or write the JSON Schema of experiment files.",
    )
    parser.add_argument(
        "--write",
        metavar="PATH",
        type=Path,
        nargs="?",
        const=DEFAULT_PATH,
        help=f"write it to a file ({DEFAULT_PATH} by default) instead of printing it",
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", help="an experiment file; its code runs"
    )
    arguments = parser.parse_args(argv)
    try:
        if arguments.file is not None:
            load(arguments.file)
    except HarnessError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    path: Path | None = arguments.write
    if path is None:
        sys.stdout.write(text())
    else:
        path.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
