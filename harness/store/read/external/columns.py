"""Columns of a table that another program wrote: settings as text, scores as numbers, seeds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, isnan, nan
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.core.text import format_value
from harness.store.names import ABSENT

NO_VALUE = ("", "na", "n/a", "null", "none", "<na>")
"""Text that stands for a score that is missing, in small letters."""
_NUMBER = re.compile(r"[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")
"""A number that is no label: "007" is one."""
_FRACTION = re.compile(r"[-+]?[0-9]*\.[0-9]*[1-9][0-9]*")
_WHOLE = re.compile(r"[-+]?(0|[1-9][0-9]*)")
_LARGEST_SEED = 2**63


def setting_columns(rows: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Returns the canonical texts of some columns."""
    texts = {name: setting_texts(rows[name]) for name in names}
    return pd.DataFrame(texts, index=rows.index, dtype=object)


def setting_texts(values: Iterable[object]) -> list[str]:
    """Returns the canonical text of each setting, `ABSENT` for one that is missing."""
    # 1 and True are equal, and mean different settings; a list has no hash.
    keys = [value if isinstance(value, str) else _key(value) for value in values]
    known = {key: setting_text(key if isinstance(key, str) else key[1]) for key in set(keys)}
    return [known[key] for key in keys]


def _key(value: object) -> tuple[type, Any]:
    try:
        hash(value)
    except TypeError:
        return str, setting_text(value)
    return type(value), value


def setting_text(value: object) -> str:
    """Returns the canonical text of a setting: "0.001" of 1e-3 and of "1e-3", "true" of "True"."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, np.floating):
        value = float(str(value))  # 0.1 in single precision is not 0.10000000149011612.
    if isinstance(value, np.generic):
        value = value.item()
    if _is_missing(value):
        return ABSENT
    if not isinstance(value, str):
        return format_value(value)
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    if _WHOLE.fullmatch(text):
        return format_value(int(text))
    return format_value(float(text)) if _NUMBER.fullmatch(text) else text or ABSENT


def respelled(values: Iterable[object]) -> list[list[str]]:
    """Returns the texts that are one number, and may be two labels: "1.1" and "1.10"."""
    spelled: dict[str, list[str]] = {}
    for text in sorted({value.strip() for value in values if isinstance(value, str)}):
        if _FRACTION.fullmatch(text):
            spelled.setdefault(setting_text(text), []).append(text)
    return [texts for texts in spelled.values() if len(texts) > 1]


def is_number(text: str) -> bool:
    """Whether the text of a setting is a number."""
    return _NUMBER.fullmatch(text) is not None


def plain_setting(text: str) -> str | float | bool | None:
    """Returns the value that the text of a setting stands for, as JSON has it."""
    if text == ABSENT:
        return None
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if is_number(text) else text


def _is_missing(value: object) -> bool:
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (isinstance(value, float) and isnan(value))
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """A column of scores.

    values: NaN where there is none. diverged: where the score is written as NaN or infinite.
    faults: what is no number, by its place from 0.
    """

    values: NDArray[np.float64]
    diverged: NDArray[np.bool_]
    faults: dict[int, str]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """Where there is neither a number nor a word that it diverged."""
        return np.isnan(self.values) & ~self.diverged


def read_scores(column: pd.Series[Any]) -> Scores:
    """Reads a column of scores: numbers, or text as a CSV file has it.

    An infinite number diverged, and so did the text "nan". A NaN that is no text is a missing
    score, as it is to pandas, which writes it as an empty cell.
    """
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_complex_dtype(column):
        values = column.to_numpy(dtype=float, na_value=nan)
        infinite = np.isinf(values)
        return Scores(np.where(infinite, nan, values), infinite, {})
    values, diverged = np.full(len(column), nan), np.zeros(len(column), dtype=bool)
    faults: dict[int, str] = {}
    for place, cell in enumerate(column):
        if _is_missing(cell):
            continue
        text = str(cell).strip()
        if text.lower() in NO_VALUE:
            continue
        number = _number(text)
        if number is None:
            faults[place] = text
        elif isfinite(number):
            values[place] = number
        else:
            diverged[place] = True
    return Scores(values, diverged, faults)


def _number(text: str) -> float | None:
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def seed_numbers(texts: Sequence[str]) -> pd.Series[Any]:
    """Returns an integer for each seed: the seed itself or, if some are words, its place among
    them."""
    if all(_WHOLE.fullmatch(text) and abs(int(text)) < _LARGEST_SEED for text in set(texts)):
        return pd.Series([int(text) for text in texts], dtype="Int64")
    places = {text: place for place, text in enumerate(sorted(set(texts)))}
    return pd.Series([places[text] for text in texts], dtype="Int64")
