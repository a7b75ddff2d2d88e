"""Files that data sets are read from: their checksums, and what happens where one is absent."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Final, cast

from harness.core.errors import DataMissing, Problem

CONNECT_SECONDS: Final = 30.0
"""Longest wait for a server that does not answer; the system's own limit is minutes."""

_forbidden: ContextVar[str] = ContextVar("_forbidden", default="")


@contextmanager
def offline(why: str) -> Iterator[None]:
    """Nothing is downloaded within; what would be is missing instead.

    why: for the message, as "a dry run downloads nothing".
    """
    before = _forbidden.set(why)
    try:
        yield
    finally:
        _forbidden.reset(before)


def forbidden() -> str:
    """Why nothing may be downloaded now; empty where it may."""
    return _forbidden.get()


@dataclass(frozen=True, slots=True)
class Version:
    """A file as it stands now: the key under which what was read of it is kept in this process."""

    path: Path
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Version:
        stat = path.stat()
        return cls(path, stat.st_size, stat.st_mtime_ns)


def opened(path: Path) -> IO[bytes]:
    """A file to read bytes from, unpacked where its name ends in .gz."""
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's content, unpacked first where its name ends in .gz."""
    return _sha256(Version.of(path))


@lru_cache(maxsize=65536)
def _sha256(version: Version) -> str:
    whole = hashlib.sha256()
    with opened(version.path) as file:
        while part := file.read(1 << 20):
            whole.update(part)
    return whole.hexdigest()


def fingerprint(files: Mapping[str, Path]) -> str:
    """SHA-256 (hex) of several files, each under a name that does not depend on where it lies."""
    whole = hashlib.sha256()
    for name, path in sorted(files.items()):
        whole.update(f"{name}\0{sha256(path)}\n".encode())
    return whole.hexdigest()


def missing(dataset: str, wanted: str, root: Path, why: str = "") -> DataMissing:
    """The error for a file that is not there.

    wanted: its path, absolute or below the data folder `root`. why: no download put it there.
    """
    path = root / Path(wanted).expanduser()
    reason = f", and {why}" if why else ""
    below = f"put {wanted} below {root}, or set HARNESS_DATA to the folder that has it"
    absolute = Path(wanted).expanduser().is_absolute()
    hint = f"a relative path is looked for below {root}" if absolute else below
    return DataMissing(Problem(f"dataset {dataset}: {path} does not exist{reason}", hint=hint))


def fetch(
    dataset: str, wanted: Sequence[str], root: Path, download: Callable[[Path], None]
) -> None:
    """Downloads a data set's files and puts them below `root`, each whole or not at all.

    wanted: their paths below `root`. download: fetches them to the same paths below the folder
    it is given. Raises DataMissing where that fails, or at once within `offline`.
    """
    if why := forbidden():
        raise missing(dataset, wanted[0], root, why)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            TemporaryDirectory(prefix=".download-", dir=root) as scratch,
            _patience(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # scikit-learn's, of each try; the error says it all
            download(Path(scratch))
            for name in wanted:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(scratch) / name, root / name)
    except (OSError, RuntimeError) as error:  # URLError is an OSError
        why = f"it could not be downloaded ({' '.join(str(error).split())})"
        raise missing(dataset, wanted[0], root, why) from error


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
