"""Values, counts, lists and tables as text: for people, for MLflow and for CSV files."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from math import floor, isfinite, log10
from typing import Any

DECIMALS = 4
"""Decimals of a score between 0.1 and 10."""
HUGE = 1e6
TINY = 1e-6
"""Sizes from which, and below which, a number is written with its power of ten."""
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


def decimals_of(value: float) -> int:
    """Returns with how many decimals a score is written.

    Four below 10 (0.9832, 1.2345); fewer above (12.345, 123.45) and more below 0.1 (0.012345), so
    that at least four digits are significant.
    """
    if not isfinite(value) or abs(value) < TINY:
        return DECIMALS
    magnitude = floor(log10(abs(value)))
    decimals = DECIMALS - 1 - magnitude if magnitude < -1 else DECIMALS - max(magnitude, 0)
    return max(decimals, 0)


def format_score(value: float, decimals: int | None = None, digits: int = 3) -> str:
    """Returns a number with so many decimals, by default its own: "0.9832", "12.345".

    A number that has fewer significant digits then is written with four: "1.000e-14" beside
    "0.9832". Only 0 is written as 0, and a number from a million with its power of ten.

    digits: the fewest that are significant; 1 for what lies near 0 beside larger numbers, as a
        standard deviation may.
    """
    decimals = decimals_of(value) if decimals is None else decimals
    text = f"{value:.{decimals}f}"
    if abs(value) >= HUGE:
        return f"{value:.3e}"
    if not value or not isfinite(value):
        return text
    too_few = floor(log10(abs(value))) + decimals + 1 < digits and digits > 1
    return f"{value:#.4g}" if too_few or not float(text) else text


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


def kind_of(value: object) -> str:
    """Returns what a value is, for messages: "a list"; "nothing" for None."""
    return "nothing" if value is None else f"a {type(value).__name__}"


def snake_case(name: str) -> str:
    """Returns a class's name in lower case with underscores: "my_net" of "MyNet"."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


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
