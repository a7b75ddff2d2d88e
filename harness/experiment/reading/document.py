"""An experiment file as read: its values, and where each of them was given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.core.errors import InputError, Problem, did_you_mean
from harness.experiment.reading import yaml
from harness.experiment.reading.yaml import Keys


@dataclass(slots=True)
class Document:
    """values: the top-level mapping, plain values throughout.

    overrides: what each override set, and the text it was given as.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Keys, int] = field(default_factory=dict)
    overrides: dict[Keys, str] = field(default_factory=dict)

    def where(self, keys: Keys) -> str:
        """ "file.yaml:7", or "override 'lr=0.01'", of the value or of the nearest around it."""
        for length in range(len(keys), 0, -1):
            near = keys[:length]
            if near in self.overrides:
                return f"override {self.overrides[near]!r}"
            if near in self.lines:
                return f"{self.path}:{self.lines[near]}"
        return f"{self.path}:1"

    def holds(self, keys: Keys) -> bool:
        """Whether the file or an override gives something at just this place."""
        return keys in self.overrides or keys in self.lines

    def order(self, keys: Keys) -> tuple[int, int]:
        """Where a problem stands among others: by line, overrides behind."""
        for length in range(len(keys), 0, -1):
            near = keys[:length]
            if near in self.overrides:
                return (1, list(self.overrides).index(near))
            if near in self.lines:
                return (0, self.lines[near])
        return (0, 0)

    def section(self, name: str) -> dict[str, Any]:
        """The mapping under a top-level key; empty where it is absent, empty or no mapping."""
        value = self.values.get(name)
        return value if isinstance(value, dict) else {}

    def overridden(self, field: str) -> bool:
        """Whether an override set this trial field, an option of it, or its whole section."""
        return any(
            len(keys) == 1 or str(keys[1]).split(".")[0] == field
            for keys in self.overrides
            if keys[0] in {"trial", "grid"}
        )

    def forget(self, keys: Keys) -> None:
        """Drops what is known of the places at and below `keys`, which are replaced."""
        depth = len(keys)
        for known in (self.lines, self.overrides):
            for key in [key for key in known if key[:depth] == keys]:
                del known[key]


def read(path: Path) -> Document:
    """Reads an experiment file; its top level must be a mapping."""
    parsed = yaml.read(path)
    if parsed.values is None:
        raise InputError(Problem("is empty", where=str(path)))
    if not isinstance(parsed.values, dict):
        raise InputError(Problem("must be a mapping of fields", where=f"{path}:1"))
    return Document(path, parsed.values, dict(parsed.lines))


def dotted(keys: Keys) -> str:
    """The way to a value as people write it: "grid.optimizer[1].beta"."""
    text = ""
    for key in keys:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
    return text


class Faults:
    """Collects everything wrong with a document, so that all of it is reported at once."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._found: dict[Problem, tuple[int, int]] = {}

    def add(self, keys: Keys, rule: str, hint: str = "") -> None:
        """A broken rule at `keys`, as "must be greater than 0, given -1"."""
        self.put(keys, f"{dotted(keys)}: {rule}" if keys else rule, hint)

    def put(self, keys: Keys, what: str, hint: str = "") -> None:
        """A problem at `keys` in words of its own. The same problem counts once."""
        problem = Problem(what, self._document.where(keys), hint)
        self._found.setdefault(problem, self._document.order(keys))

    def unknown(self, keys: Keys, allowed: Iterable[str]) -> None:
        """The last of `keys` is not among the allowed names."""
        self.add(keys, "unknown field", did_you_mean(str(keys[-1]), allowed))

    def take(self, keys: Keys, error: InputError) -> None:
        """Problems found elsewhere, placed at `keys` unless they say where themselves."""
        for problem in error.problems:
            placed = Problem(
                problem.what, problem.where or self._document.where(keys), problem.hint
            )
            self._found.setdefault(placed, self._document.order(keys))

    def __bool__(self) -> bool:
        return bool(self._found)

    def raise_any(self) -> None:
        """Raises InputError with all problems, in the order of the file."""
        if self._found:
            raise InputError(sorted(self._found, key=lambda problem: self._found[problem]))
