"""What `harness.doctor` examines, and the findings that it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from harness.core.errors import StoreError


class Status(StrEnum):
    """WRONG asks for action; NOTE is worth knowing, but no fault; FIXED was wrong before."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"
    FIXED = "fixed"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    text: the result; for a problem, also what to do about it.
    fix: repairs it and returns what was done; None where only a person can.
    """

    check: str
    status: Status
    text: str
    fix: Callable[[], str] | None = None

    def fixed(self) -> Finding:
        """Applies the fix, if there is one. Returns the finding to report afterwards."""
        if self.fix is None:
            return self
        try:
            return Finding(self.check, Status.FIXED, self.fix())
        except (StoreError, OSError) as error:
            return replace(self, text=f"{self.text}; the fix failed: {error}")


def ok(check: str, text: str) -> Finding:
    return Finding(check, Status.OK, text)


def note(check: str, text: str) -> Finding:
    return Finding(check, Status.NOTE, text)


def wrong(check: str, text: str, fix: Callable[[], str] | None = None) -> Finding:
    return Finding(check, Status.WRONG, text, fix)
