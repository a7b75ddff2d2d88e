"""Counts and lists as sentences have them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def counted(n: int, what: str, plural: str = "") -> str:
    """ "1 seed", "3 seeds"; plural: where it takes more than an s."""
    return f"{n} {what if n == 1 else plural or what + 's'}"


def in_bytes(count: float) -> str:
    """ "512 bytes", "40 MiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def told_apart(paths: Sequence[str]) -> list[str]:
    """The parts in which addresses differ: "a/x/db", "b/x/db" as "a", "b"."""
    parts = [path.split("/") for path in paths]
    for end in (0, -1):
        while min(map(len, parts)) > 1 and len({of[end] for of in parts}) == 1:
            parts = [of[1:] if end == 0 else of[:-1] for of in parts]
    return ["/".join(of) for of in parts]


def listed(words: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
