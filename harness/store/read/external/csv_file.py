"""Reads the results that another program wrote as a CSV file."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path

import pandas as pd

from harness.components.shared.dataframes import SEPARATORS
from harness.core.errors import InputError, Problem
from harness.core.text import plural
from harness.store.read.external.frame import results_of_rows
from harness.store.read.external.roles import ColumnRoles
from harness.store.read.results import Results


def read_csv(path: Path, roles: ColumnRoles) -> Results:
    """Returns the results in a CSV file with a header and a row for each run. See
    `results_of_frame`.

    Its separator is the one of `SEPARATORS` that its header has most of.
    Raises InputError for a file that cannot be read, or is no such table.
    """
    content = _content(path)
    rows, places = _table(content, str(path))
    facts = {
        "file": str(path.resolve()),
        "SHA-256": hashlib.sha256(content).hexdigest(),
        "rows": str(len(rows)),
    }
    return results_of_rows(str(path), rows, roles, places, tuple(facts.items()))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        hint = "--csv reads results; to print this comparison as CSV, use --format csv"
        raise InputError(Problem("does not exist", where=f"--csv {path}", hint=hint)) from None
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise InputError(Problem(message, where=f"--csv {path}")) from None


def _table(content: bytes, path: str) -> tuple[pd.DataFrame, list[str]]:
    """Returns all cells as text, and the file and line of each row."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(Problem("is no text in UTF-8", where=f"{path}:{line}")) from None
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=header_line.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines, places = [], []
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                lines.append(cells)
                places.append(f"{path}:{reader.line_num}")
    except csv.Error as error:
        what = f"is no CSV: {error}"
        raise InputError(Problem(what, where=f"{path}:{reader.line_num}")) from None
    if not lines:
        raise InputError(Problem("is empty", where=path))
    header = [name.strip() for name in lines[0]]
    for cells, place in zip(lines, places, strict=True):
        if len(cells) != len(header):
            what = f"has {plural(len(cells), 'cell')}, and the header has {len(header)}"
            hint = f"a cell with {separator!r} in it stands in quotes"
            raise InputError(Problem(what, where=place, hint=hint))
    if len(lines) == 1:
        raise InputError(Problem("has a header, and no runs below it", where=path))
    return pd.DataFrame(lines[1:], columns=header, dtype=object), places[1:]
