"""Files of data sets: their checksums, and their download if they are missing."""

from __future__ import annotations

import difflib
import gzip
import hashlib
import os
import socket
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache, wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Concatenate, Final, ParamSpec, TypeVar, cast

from harness.core.errors import DataMissing, InputError, Problem

P = ParamSpec("P")
T = TypeVar("T")

CONNECT_SECONDS: Final = 30.0
"""Timeout for a server that does not answer; the system's own is minutes."""

TIME_RESOLUTION_NS: Final = 100_000_000
"""The coarsest step of a file's times, with room to spare: 10 ms on Linux."""

_seen: ContextVar[set[FileVersion] | None] = ContextVar("_seen", default=None)
_offline_reason: ContextVar[str] = ContextVar("_offline_reason", default="")


@contextmanager
def offline(reason: str) -> Iterator[None]:
    """Forbids downloads within the block: what would be downloaded counts as missing.

    reason: for the message, such as "a dry run downloads nothing".
    """
    token = _offline_reason.set(reason)
    try:
        yield
    finally:
        _offline_reason.reset(token)


def offline_reason() -> str:
    """Returns why downloads are forbidden now; "" if they are allowed."""
    return _offline_reason.get()


@dataclass(frozen=True, slots=True)
class FileVersion:
    """A file as it is now. It serves as a cache key for what was read from the file."""

    path: Path
    size: int
    inode: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, path: Path) -> FileVersion:
        stat = path.stat()
        version = cls(path, stat.st_size, stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns)
        seen = _seen.get()
        if seen is not None:
            seen.add(version)
        return version

    @property
    def is_settled(self) -> bool:
        """Whether a later change of the file changes its times: their resolution is coarse."""
        return time.time_ns() - max(self.mtime_ns, self.ctime_ns) > TIME_RESOLUTION_NS


@contextmanager
def files_seen() -> Iterator[set[FileVersion]]:
    """Yields the versions of files that `FileVersion.of` sees within the block."""
    seen: set[FileVersion] = set()
    token = _seen.set(seen)
    try:
        yield seen
    finally:
        _seen.reset(token)


def cached_by_file(
    maxsize: int = 32,
) -> Callable[[Callable[Concatenate[Path, P], T]], Callable[Concatenate[Path, P], T]]:
    """A decorator for functions of a file: a result is kept as long as the file does not change.

    A file that was just written is read each time, as its times may not tell its next change.
    """

    def decorate(
        read: Callable[Concatenate[Path, P], T],
    ) -> Callable[Concatenate[Path, P], T]:
        @lru_cache(maxsize)
        def kept(version: FileVersion, *args: P.args, **kwargs: P.kwargs) -> T:
            return read(version.path, *args, **kwargs)

        @wraps(read)
        def cached(path: Path, /, *args: P.args, **kwargs: P.kwargs) -> T:
            version = FileVersion.of(path)
            if version.is_settled:
                return kept(version, *args, **kwargs)  # type: ignore[arg-type]
            return read(path, *args, **kwargs)

        return cached

    return decorate


def open_unzipped(path: Path) -> IO[bytes]:
    """Opens a file for reading bytes. A file whose name ends in .gz is decompressed."""
    return cast("IO[bytes]", gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


@contextmanager
def read_unzipped(path: Path) -> Iterator[IO[bytes]]:
    """Opens a file as `open_unzipped` does. Turns errors of reading it into InputError."""
    try:
        with open_unzipped(path) as file:
            yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        hint = "it is cut short or no gzip file: download it again, or remove the .gz of its name"
        raise InputError(Problem(f"{path} cannot be decompressed ({error})", hint=hint)) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


@cached_by_file(maxsize=65536)
def sha256(path: Path) -> str:
    """Returns the SHA-256 (hex) of a file's content, decompressed if its name ends in .gz."""
    with read_unzipped(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def combined_sha256(files: Mapping[str, Path]) -> str:
    """Returns the SHA-256 (hex) of several files.

    files: by names that do not depend on where the files are.
    """
    digest = hashlib.sha256()
    for name, path in sorted(files.items()):
        digest.update(f"{name}\0{sha256(path)}\n".encode())
    return digest.hexdigest()


def beside(folder: Path, file: str) -> Path:
    """Returns the absolute path of a user's file that is named relative to a folder."""
    return Path(os.path.abspath(folder / Path(file).expanduser()))


def nearest_path(path: Path) -> Path | None:
    """Returns the existing path that is spelled most like one that does not exist, if any is."""
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if not (found / part).exists():
            try:
                names = {name.lower(): name for name in os.listdir(found)}
            except OSError:
                return None
            matches = difflib.get_close_matches(part.lower(), names, n=1, cutoff=0.7)
            if not matches:
                return None
            part = names[matches[0]]
        found /= part
    return found


def missing_file(dataset: str, file: str, root: Path, reason: str = "") -> DataMissing:
    """Returns the error for a file that does not exist.

    file: its path, absolute or below the data folder `root`. reason: why it was not downloaded.
    """
    path = root / Path(file).expanduser()
    if Path(file).expanduser().is_absolute():
        hint = f"a relative path is looked for beside the experiment file, then below {root}"
    else:
        hint = f"put {file} below {root}, or set HARNESS_DATA to the folder that contains it"
    if near := nearest_path(path):
        hint = f"did you mean {near}? {hint}"
    reason = f", and {reason}" if reason else ""
    return DataMissing(Problem(f"dataset {dataset}: {path} does not exist{reason}", hint=hint))


def download_missing(
    dataset: str,
    files: Iterable[str],
    root: Path,
    download: Callable[[Path], None],
    allowed: bool = True,
) -> None:
    """Downloads those files of a data set that do not exist. It never leaves an incomplete file.

    files: their paths below `root`.
    download: downloads them to the same paths below the folder that it is given.
    allowed: the data set's option `download`.
    Raises DataMissing if the download fails, or at once if it is not allowed, or within `offline`.
    """
    missing = [name for name in files if not (root / name).is_file()]
    if not missing:
        return
    if not allowed or offline_reason():
        raise missing_file(dataset, missing[0], root, offline_reason() if allowed else "")
    try:
        root.mkdir(parents=True, exist_ok=True)
        with (
            TemporaryDirectory(prefix=".download-", dir=root) as temporary,
            _socket_timeout(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")  # scikit-learn warns of each retry; the error suffices.
            download(Path(temporary))
            for name in missing:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                os.replace(Path(temporary) / name, root / name)
    except (OSError, RuntimeError) as error:  # URLError is an OSError.
        reason = f"it could not be downloaded ({' '.join(str(error).split())})"
        raise missing_file(dataset, missing[0], root, reason) from error


@contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(CONNECT_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
