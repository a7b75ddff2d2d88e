"""Values, counts, lists and tables as text: for people, for MLflow and for CSV files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


def format_value(value: Any) -> str:
    """Returns the canonical text of a number or an option's value, as MLflow params and labels have
    it: 1e-3 and 0.0010 both as "0.001", 1.0 as "1"."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e16:
        return str(int(value))
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(format_value(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    return str(value)


def plural(count: int, noun: str, irregular: str = "") -> str:
    """Returns "1 seed" or "3 seeds". irregular: the plural of a noun that takes more than an s."""
    return f"{count} {noun if count == 1 else irregular or noun + 's'}"


def format_bytes(count: float) -> str:
    """Returns "512 bytes" or "40 MiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def join_with_and(words: Iterable[str]) -> str:
    """Returns "a", "a and b" or "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def distinct_parts(paths: Sequence[str]) -> list[str]:
    """Returns the parts in which addresses differ: "a" and "b" for "a/x/db" and "b/x/db"."""
    split = [path.split("/") for path in paths]
    for end in (0, -1):
        while min(map(len, split)) > 1 and len({parts[end] for parts in split}) == 1:
            split = [parts[1:] if end == 0 else parts[:-1] for parts in split]
    return ["/".join(parts) for parts in split]


def escape_formula(cell: object) -> str:
    """Returns a cell's text, with an apostrophe before what a spreadsheet would run as a formula.

    Numbers such as "-0.5" and "1e-3" are not formulas. None and NaN become an empty cell.
    """
    if cell is None or cell != cell:
        return ""
    text = repr(cell) if isinstance(cell, float) else str(cell)
    if not text.lstrip(" ").startswith(_FORMULA) or _NUMBER.fullmatch(text):
        return text
    return "'" + text


def format_csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Returns the content of a CSV file (RFC 4180, with newlines alone as line ends)."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([escape_formula(cell) for cell in header])
    writer.writerows([escape_formula(cell) for cell in row] for row in rows)
    return out.getvalue()
