"""What a check found, and what mends it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """WRONG wants something done; NOTE is worth knowing and no fault; MENDED was wrong."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    MENDED = "mended"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the examination.

    what: what was found, and where it is wrong what to do. mend: does it, and returns what it did;
    None where nothing can be done safely without a person.
    """

    check: str
    state: State
    what: str
    mend: Callable[[], str] | None = None


def ok(check: str, what: str) -> Finding:
    return Finding(check, State.OK, what)


def note(check: str, what: str) -> Finding:
    return Finding(check, State.NOTE, what)


def wrong(check: str, what: str, mend: Callable[[], str] | None = None) -> Finding:
    return Finding(check, State.WRONG, what, mend)
