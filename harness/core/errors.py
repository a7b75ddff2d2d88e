"""Errors meant for the person who can mend them: what is wrong, where, and what was expected."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class HarnessError(Exception):
    """Anything the harness refuses or cannot do; its text is shown without a traceback.

    `exit_code` is what a command that ends with this error returns.
    """

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in what a user gave.

    where: file and line ("grid.yaml:7"), or the command-line override, or empty.
    what: the rule that is broken, naming the field.
    hint: the closest valid name or the way out; empty where there is none.
    """

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        hint = f"\n    {self.hint}" if self.hint else ""
        return f"{place}{self.what}{hint}"


class InputError(HarnessError):
    """Bad input, found before anything runs. Carries every problem found, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class DataMissing(InputError):
    """A data set's file is absent; says which file is wanted where."""


class StoreError(HarnessError):
    """The MLflow store cannot be opened, read or written."""

    exit_code = 2


class StoreUnreachable(StoreError):
    """The MLflow store does not answer, or is busy; the same call may succeed later."""


def closest_match(name: str, allowed: Iterable[str]) -> str | None:
    """The allowed name most like `name`, or None where none is near.

    Case is ignored, so that `Adam` finds `adam`.
    """
    by_lower = {candidate.lower(): candidate for candidate in allowed}
    found = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, allowed: Iterable[str]) -> str:
    """A hint for an unknown name: the closest match where there is one, and the allowed names."""
    names = sorted(allowed)
    near = closest_match(name, names)
    listed = ", ".join(names) if names else "none"
    return (f"did you mean {near!r}? " if near else "") + f"allowed: {listed}"
