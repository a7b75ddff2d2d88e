"""Data shared by the processes of one machine: prepared by one, mapped into memory by all.

A file on the shelf is written whole and then moved into place; readers map it privately, so that
nothing that one of them does to its tensors reaches another, and a reader's death harms nobody.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from harness.components.base import (
    DataInfo,
    Examples,
    ImageTransform,
    Imputer,
    RawData,
    SplitRule,
    TableColumns,
    Task,
)

T = TypeVar("T")

_SHAREABLE = (
    DataInfo,
    Examples,
    ImageTransform,
    Imputer,
    RawData,
    SplitRule,
    TableColumns,
    Task,
)


@dataclass(frozen=True, slots=True)
class SharedCache:
    """A folder that processes share. budget: bytes it may hold; the oldest files go first."""

    folder: Path
    budget: int

    def get(
        self,
        key: str,
        make: Callable[[], T],
        worth: Callable[[T], bool],
        kinds: Sequence[type] = (),
    ) -> T:
        """What lies under `key`, made and put there by whoever asks first.

        worth: whether what was made can be shared. kinds: the data classes it is made of, besides
        those of `harness.components.base`. What cannot be put there is made for this
        process alone.
        """
        path = self.folder / (hashlib.sha256(key.encode()).hexdigest()[:32] + ".pt")
        with torch.serialization.safe_globals([*_SHAREABLE, *kinds]):
            with suppress(OSError):
                return cast("T", _mapped(path))
            with _locked(path.with_suffix(".lock")):
                with suppress(OSError):
                    return cast("T", _mapped(path))
                made = make()
                if not worth(made):
                    return made
                try:
                    self._put(path, made)
                    return cast("T", _mapped(path))
                except (OSError, RuntimeError):  # torch tells a full disk as a RuntimeError.
                    return made

    def _put(self, path: Path, content: object) -> None:
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            torch.save(content, partial)
            self._make_room(partial.stat().st_size)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _make_room(self, size: int) -> None:
        """A file that is unlinked stays with those that have it mapped."""
        held = sorted(self.folder.glob("*.pt"), key=lambda path: path.stat().st_mtime)
        total = size + sum(path.stat().st_size for path in held)
        for path in held:
            if total <= self.budget:
                return
            total -= path.stat().st_size
            path.unlink()


@dataclass(frozen=True, slots=True)
class PreloadedData:
    """Things that came with a task, by their keys; all others this process makes for itself."""

    things: Mapping[str, Any]

    def get(
        self,
        key: str,
        make: Callable[[], T],
        worth: Callable[[T], bool],  # noqa: ARG002 - as Shelf.get
        kinds: Sequence[type] = (),  # noqa: ARG002
    ) -> T:
        """What lies under `key`, or else `make()`."""
        return cast("T", self.things[key]) if key in self.things else make()


_current: SharedCache | PreloadedData | None = None


def use_cache(shelf: SharedCache | PreloadedData | None) -> None:
    """Share through `shelf` what this process loads from now on; None shares nothing."""
    global _current
    _current = shelf


def cached(
    key: str, make: Callable[[], T], worth: Callable[[T], bool], kinds: Sequence[type] = ()
) -> T:
    """`make()`, or what another process made of the same key. See `Shelf.get`."""
    return make() if _current is None else _current.get(key, make, worth, kinds)


def _mapped(path: Path) -> Any:
    return torch.load(path, mmap=True, weights_only=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """A lock between processes, which goes with the process that holds it. Without one (Windows),
    two may prepare the same."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
