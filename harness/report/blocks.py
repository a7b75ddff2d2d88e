"""What a report consists of, before it takes a format: paragraphs and tables of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A sentence or two. tone: "claim" stands out; "caution" must not be missed."""

    text: str
    tone: Literal["plain", "claim", "caution"] = "plain"


@dataclass(frozen=True, slots=True)
class Column:
    """A table's column. numeric: aligned to the right, and never broken over lines. remark: where
    room is short it may stand below the table, by the cells of the first column."""

    title: str
    numeric: bool = False
    remark: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """rows: one cell for each column. caption: above the table; may be empty."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Folded:
    """A long text behind its summary; HTML shows it where it is opened."""

    summary: str
    text: str


Block = Paragraph | Table
