"""Checks that what a trial reads has the checksum with which it was planned."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final, TypeVar

from harness.components.shared.data_files import FileVersion, files_seen
from harness.core.errors import InputError, Problem

T = TypeVar("T")

ATTEMPTS: Final = 3
"""How often files are read that change meanwhile without another content."""
DIGITS: Final = 16
"""Digits of a checksum that a message shows."""


class DataChanged(InputError):
    """Raised where files are not those that the trial was planned with."""


def load_planned(name: str, planned: str, checksum: Callable[[], str], load: Callable[[], T]) -> T:
    """Returns `load()`, if the files have the planned checksum before, meanwhile and after.

    name: of what is loaded, for messages. planned: "" if nothing was planned, which checks nothing.
    checksum: returns the checksum of the files as they are now; it is quick if they are unchanged.
    Raises DataChanged.
    """
    if not planned:
        return load()
    for _ in range(ATTEMPTS):
        with files_seen() as seen:
            _check(name, planned, checksum(), seen)
            loaded = load()
            _check(name, planned, checksum(), seen)
        if len({version.path for version in seen}) == len(seen):
            return loaded
    raise DataChanged(f"{name}: {_described(seen)} changes again and again while it is read")


def _check(name: str, planned: str, found: str, seen: Collection[FileVersion]) -> None:
    if found != planned:
        raise DataChanged(
            Problem(
                f"{name}: {_described(seen)} changed after the trial was planned: its SHA-256 was "
                f"{planned[:DIGITS]}… and is {found[:DIGITS]}…",
                hint="run the command again: it plans trials on the files as they are now",
            )
        )


def _described(seen: Collection[FileVersion]) -> str:
    """Returns the path of one file; of several, their folder and the one that changed last."""
    paths = {version.path for version in seen}
    if not paths:
        return "its data"
    newest = max(seen, key=lambda version: max(version.mtime_ns, version.ctime_ns)).path
    if len(paths) == 1:
        return str(newest)
    folder = Path(os.path.commonpath([path.parent for path in paths]))
    return f"{folder} ({len(paths)} files, the last to change {newest.relative_to(folder)})"
