"""Numbers, lists and cells as text: for people, for MLflow, and for CSV files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def format_number(value: float | int) -> str:
    """One canonical text for a number: 0.001, never 1e-3 beside 0.0010; 1 and 1.0 both "1"."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    return repr(value)


def format_value(value: Any) -> str:
    """The canonical text of any option's value, as a param or in a label."""
    if value is None:
        return "none"
    if isinstance(value, (bool, int, float)):
        return format_number(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return str(value)


def plural(count: int, noun: str, irregular: str = "") -> str:
    """Returns "1 seed" or "3 seeds". irregular: the plural of a noun that takes more than an s."""
    return f"{count} {noun if count == 1 else irregular or noun + 's'}"


def format_bytes(count: float) -> str:
    """ "512 bytes", "40 MiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def distinct_parts(paths: Sequence[str]) -> list[str]:
    """The parts in which addresses differ: "a/x/db", "b/x/db" as "a", "b"."""
    parts = [path.split("/") for path in paths]
    for end in (0, -1):
        while min(map(len, parts)) > 1 and len({of[end] for of in parts}) == 1:
            parts = [of[1:] if end == 0 else of[:-1] for of in parts]
    return ["/".join(of) for of in parts]


def join_with_and(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def escape_formula(cell: object) -> str:
    """A cell's text; with an apostrophe in front where a spreadsheet would calculate it.

    Numbers stay as they are, "-0.5" and "1e-3" among them. None and NaN are an empty cell.
    """
    if cell is None or cell != cell:
        return ""
    text = repr(cell) if isinstance(cell, float) else str(cell)
    if not text.lstrip(" ").startswith(_FORMULA) or _NUMBER.fullmatch(text):
        return text
    return "'" + text


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A CSV file's content (RFC 4180, but lines end with a bare newline)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape_formula(cell) for cell in header])
    writer.writerows([escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue()
