"""Counts and lists as sentences have them."""

from __future__ import annotations

from collections.abc import Iterable


def counted(n: int, what: str, plural: str = "") -> str:
    """ "1 seed", "3 seeds"; plural: where it takes more than an s."""
    return f"{n} {what if n == 1 else plural or what + 's'}"


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
