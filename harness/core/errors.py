"""Errors for users: the problem, its place, and the way out."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class HarnessError(Exception):
    """Base class of the errors that commands print without a traceback.

    exit_code: the exit code of a command that ends with this error.
    """

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Returns what a notebook shows in place of a traceback."""
        return [f"{type(self).__name__}: {self}"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault in a user's input.

    what: the rule that is broken, with the name of the field.
    where: file and line ("grid.yaml:7"), the command-line override, or "".
    hint: the closest valid name, or how to correct the fault; or "".
    """

    what: str
    where: str = ""
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"\n    {self.hint}" if self.hint else ""
        return f"{where}{self.what}{hint}"


class InputError(HarnessError):
    """Bad input. It is raised before anything runs, and lists all problems, not only the first."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem] | Problem | str) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems = (problems,) if isinstance(problems, Problem) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message; "" if it has none."""
    return next(iter(str(error).splitlines()), "")


class Attempt:
    """Calls functions, and notes the problems of an InputError. problems: those of all calls."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def __call__(
        self, function: Callable[P, T], *arguments: P.args, **options: P.kwargs
    ) -> T | None:
        """Returns what the function returns, or None if it raises InputError."""
        try:
            return function(*arguments, **options)
        except InputError as error:
            self.problems += error.problems
            return None


@contextmanager
def all_problems() -> Iterator[Attempt]:
    """Raises one InputError, at the end of the block, with the problems of all attempts in it."""
    attempt = Attempt()
    yield attempt
    if attempt.problems:
        raise InputError(attempt.problems)


class DataMissing(InputError):
    """A file of a data set does not exist. The message says which file is expected where."""


class TrialFailed(HarnessError):
    """A trial failed where the first failure was to end the sweep or the search."""


class NoResults(InputError):
    """The store has no results of an experiment, or does not exist yet."""


class StoreError(HarnessError):
    """The MLflow store cannot be opened, read or written."""

    exit_code = 2


class StoreUnreachable(StoreError):
    """The MLflow store does not answer or is busy. The same call may succeed later."""


def did_you_mean(name: str, allowed: Iterable[str], suggestion: str = "", most: float = inf) -> str:
    """Returns a hint for an unknown name: the suggestion, else the closest match, if any, and all
    allowed names.

    most: more names than this are not listed.
    """
    names = sorted(allowed)
    near = suggestion or closest(name, names)
    question = f"did you mean {near!r}? " if near else ""
    if len(names) > most:
        return question.rstrip()
    return f"{question}allowed: {', '.join(names) or 'none'}"


def closest(name: str, allowed: Iterable[str]) -> str:
    """Returns the allowed name that an unknown one most likely means; "" if none is like it.

    Case and separators do not count. The beginning of a name ("val_acc" of "val/accuracy") and its
    initials ("wd" of "weight_decay") mean it too.
    """
    names = sorted(allowed)
    given = _letters(name)
    begun = [c for c in names if len(given) > 2 and _letters(c).startswith(given)]
    if begun:
        return min(begun, key=len)
    if len(_initials(name)) > 1 and _initials(name) in names:
        return _initials(name)
    by_lower = {candidate.lower(): candidate for candidate in names}
    matches = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    if matches:
        return by_lower[matches[0]]
    short = (c for c in names if given == _initials(c) or _letters(c) == _initials(name))
    return next((c for c in short if len(given) > 1), "")


def _letters(name: str) -> str:
    return "".join(filter(str.isalnum, name.lower()))


def _initials(name: str) -> str:
    """Returns the first letters of a name of several parts; "" of a name of one part."""
    parts = re.findall(r"[^\W_]+", name.lower())
    return "".join(part[0] for part in parts) if len(parts) > 1 else ""


def require_known(names: Iterable[str], allowed: Collection[str], rule: str) -> None:
    """Raises InputError for names that are not allowed, with a hint for each of them.

    rule: what is broken, as far as the name: "no trial has a field".
    """
    unknown = [name for name in names if name not in allowed]
    if unknown:
        raise InputError(
            [Problem(f"{rule} {name!r}", hint=did_you_mean(name, allowed)) for name in unknown]
        )
