"""The JSON Schema of what `python -m harness.compare --format json` prints.

    python -m harness.report.schema                     prints it
    python -m harness.report.schema --write [PATH]      writes it (docs/compare.schema.json)

The schema follows from the sections' records. It allows additions: a reader of one version of the
JSON can read it when sections or fields are added.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, get_args, get_type_hints

from pydantic import TypeAdapter

from harness.report.data_formats import SCHEMA
from harness.report.section import sections

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
DEFAULT_PATH: Final = Path("docs/compare.schema.json")


def schema() -> dict[str, Any]:
    """Returns the whole schema, draft 2020-12."""
    # Of `Record | None`, the schema is made from the record.
    returned = {of.name: get_type_hints(of.record)["return"] for of in sections()}
    records = {name: (get_args(of) or (of,))[0] for name, of in returned.items()}
    bodies, definitions = TypeAdapter.json_schemas(
        [(name, "serialization", TypeAdapter[Any](record)) for name, record in records.items()]
    )
    experiment = {
        "type": "object",
        "required": ["experiment"],
        "properties": {"experiment": {"type": "string"}}
        | {name: body for (name, _), body in bodies.items()},
    }
    return {
        "$schema": DIALECT,
        "title": SCHEMA,
        "description": "What `python -m harness.compare --format json` prints.",
        "type": "object",
        "required": ["schema", "experiments"],
        "properties": {
            "schema": {"const": SCHEMA},
            "experiments": {"type": "array", "items": _nullable(experiment)},
        },
        "$defs": _nullable(definitions.get("$defs", {})),
    }


def text() -> str:
    """Returns the schema as the text of its file."""
    return json.dumps(schema(), indent=1, ensure_ascii=False) + "\n"


def _nullable(value: Any) -> Any:
    """Allows null for every number: a number that is not finite is null in the JSON."""
    if isinstance(value, dict):
        if value.get("type") == "number":
            return value | {"type": ["number", "null"]}
        named = ("title", str)  # pydantic's name of each field; a field may be called so too
        return {k: _nullable(v) for k, v in value.items() if (k, type(v)) != named}
    return [_nullable(item) for item in value] if isinstance(value, list) else value


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description="The JSON Schema of compare's JSON.")
    parser.add_argument("--write", nargs="?", type=Path, const=DEFAULT_PATH, metavar="PATH")
    arguments = parser.parse_args(argv)
    if arguments.write is None:
        sys.stdout.write(text())
    else:
        arguments.write.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
