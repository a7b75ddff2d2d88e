"""Data that the processes of one machine share: one prepares it, all map it into memory.

A file is written whole and then moved into place. Readers map it privately: changes that one
process makes to its tensors do not reach another, and a reader that dies harms nobody.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from harness.components import base
from harness.core.files import file_lock

T = TypeVar("T")

_DATA_CLASSES = (base.DataInfo, base.Examples, base.ImageTransform, base.Imputer, base.RawData)
_SAFE_CLASSES = (*_DATA_CLASSES, base.SplitRule, base.TableColumns, base.Task)


@dataclass(frozen=True, slots=True)
class SharedCache:
    """A folder that processes share.

    budget: the most bytes it may hold; the oldest files are removed first.
    """

    folder: Path
    budget: int

    def get(
        self,
        key: str,
        make: Callable[[], T],
        is_shareable: Callable[[T], bool],
        classes: Sequence[type] = (),
    ) -> T:
        """Returns the object of a key; the first process that asks makes it and stores it.

        An object that is not shareable, or cannot be written, is made for this process alone.
        classes: the data classes that the object consists of, besides those of
        `harness.components.base`.
        """
        path = self.folder / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".pt")
        with torch.serialization.safe_globals([*_SAFE_CLASSES, *classes]):
            with suppress(OSError):
                return cast("T", _map(path))
            with file_lock(path.with_suffix(".lock"), tell=False):
                with suppress(OSError):
                    return cast("T", _map(path))
                content = make()
                if not is_shareable(content):
                    return content
                try:
                    self._write(path, content)
                    return cast("T", _map(path))
                except (OSError, RuntimeError):  # torch reports a full disk as a RuntimeError.
                    return content

    def _write(self, path: Path, content: object) -> None:
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            torch.save(content, partial)
            self._make_room(partial.stat().st_size)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """Removes the oldest files. Processes that have mapped them keep their content."""
        files = sorted(self.folder.glob("*.pt"), key=lambda path: path.stat().st_mtime)
        total = size + sum(path.stat().st_size for path in files)
        for path in files:
            if total <= self.budget:
                return
            total -= path.stat().st_size
            path.unlink()


_current: SharedCache | Mapping[str, Any] = {}


def use_cache(cache: SharedCache | Mapping[str, Any]) -> None:
    """Makes this process load data through `cache` from now on.

    A mapping has objects that came with a task, by their keys; this process makes all others.
    """
    global _current
    _current = cache


def cached(
    key: str,
    make: Callable[[], T],
    is_shareable: Callable[[T], bool],
    classes: Sequence[type] = (),
) -> T:
    """Returns the cached object of a key, or else `make()`. See `SharedCache.get`."""
    if isinstance(_current, SharedCache):
        return _current.get(key, make, is_shareable, classes)
    return cast("T", _current[key]) if key in _current else make()


def _map(path: Path) -> Any:
    return torch.load(path, mmap=True, weights_only=True)
