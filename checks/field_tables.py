"""Makes the tables of fields in docs/experiment-file.md from the fields' declarations.

python -m checks.field_tables --write     brings the page up to date
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from harness.components.base import SINGULAR
from harness.core.text import format_value
from harness.experiment.fields import (
    COMPONENT_KINDS,
    ExpectFields,
    Fields,
    FileFields,
    SearchFields,
    SkipFields,
    TrialFields,
)
from harness.experiment.reading.validation import allowed
from harness.experiment.trial import COMPONENT_LIST_FIELDS, NO_AUGMENTATION

PAGE: Final = Path("docs/experiment-file.md")

TABLES: Final[Mapping[str, type[Fields]]] = {
    "file": FileFields,
    "trial": TrialFields,
    "skip": SkipFields,
    "expect": ExpectFields,
    "search": SearchFields,
}

_WORDS: Final = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    list: "list",
    tuple: "list",
    dict: "mapping",
}


def table(fields: type[Fields]) -> str:
    """Returns a Markdown table of declared fields: name, values, default, meaning."""
    rows = ["| field | takes | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.model_fields.items():
        cells = (f"`{name}`", _takes(name, field), _default(field), field.description or "")
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def refreshed(page: str) -> str:
    """Returns a page whose tables, between their markers, are up to date."""
    for name, fields in TABLES.items():
        block = re.compile(rf"(<!-- fields: {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        content = table(fields).replace("\\", r"\\")
        page = block.sub(rf"\g<1>{content}\g<2>", page)
    return page


def _takes(name: str, field: FieldInfo) -> str:
    if name in COMPONENT_KINDS and field.annotation is Any:
        kind = SINGULAR[COMPONENT_KINDS[name]]
        article = "an" if kind[0] in "aeiou" else "a"
        several = f"`{NO_AUGMENTATION}`, {article} {kind}, or a list"
        return several if name in COMPONENT_LIST_FIELDS else f"{article} {kind}"
    if field.examples:
        return ", ".join(f"`{example}`" for example in field.examples)
    words = " or ".join(_words(field.annotation))
    limits = allowed(field).removeprefix("allowed: ")
    return f"{words}, {limits}" if limits else words


def _words(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        members = [member for member in get_args(annotation) if member is not NoneType]
        for member in members:
            yield from _words(member)
        if len(members) < len(get_args(annotation)):
            yield "null"
    elif origin is Literal:
        yield from (f"`{value}`" for value in get_args(annotation))
    elif hasattr(annotation, "__metadata__"):
        yield from _words(annotation.__origin__)
    else:
        yield _WORDS[origin or annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "must be given"
    if field.default is None:
        return "`null`" if NoneType in get_args(field.annotation) else ""
    if field.default in ("", (), [], {}):
        return ""
    return f"`{format_value(field.default)}`"


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the tables, or writes them into the page."""
    parser = argparse.ArgumentParser(prog="python -m checks.field_tables")
    parser.add_argument("--write", action="store_true", help=f"bring {PAGE} up to date")
    if parser.parse_args(argv).write:
        PAGE.write_text(refreshed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        sys.stdout.write("\n".join(table(fields) for fields in TABLES.values()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
