"""What a report consists of before it takes a format: paragraphs and tables of text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or two. tone: "claim" stands out; "caution" is a warning."""

    text: str
    tone: Literal["plain", "claim", "caution"] = "plain"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    numeric: aligned to the right, and never broken over lines.
    remark: on a narrow terminal the column may be printed below the table.
    """

    title: str
    numeric: bool = False
    remark: bool = False


@dataclass(frozen=True, slots=True)
class ReportTable:
    """A table of text. rows: one cell for each column. caption: may be empty."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""

    def without_last_column(self) -> ReportTable:
        """Returns the same table, for rows that have nothing to say in its last column."""
        rows = tuple(row[:-1] for row in self.rows)
        return replace(self, columns=self.columns[:-1], rows=rows)


@dataclass(frozen=True, slots=True)
class Folded:
    """A long text behind its summary, which HTML shows when it is opened."""

    summary: str
    text: str


Block = Paragraph | ReportTable


def columns(*text: str, numeric: Sequence[str] = ()) -> tuple[Column, ...]:
    """Returns columns of text, followed by columns of numbers."""
    return (*map(Column, text), *(Column(title, numeric=True) for title in numeric))


def by_task(items: Iterable[Any]) -> dict[str, list[Any]]:
    """Groups items by their attribute `task`, in the order in which tasks first appear."""
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(item.task, []).append(item)
    return groups


def with_task(title: str, task: str) -> str:
    """Returns a title that names its task, if there are several tasks."""
    return f"{title}: {task}" if task else title


def clean(text: str) -> str:
    """Returns text of a store, safe to show: on one line, without the control characters that steer
    a terminal or reverse the direction of writing."""
    one_line = " ".join(text.split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf") else c for c in one_line)
