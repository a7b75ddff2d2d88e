"""Checksummed files: a line with the SHA-256 of the content, then the content as torch saves it.

A file is replaced atomically, so that a reader finds either the old content or the new.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import pickle
from contextlib import suppress
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)


class DamagedFile(Exception):
    """A file whose content does not match its checksum, or that torch cannot read."""


def write_checksummed(path: Path, content: object) -> None:
    """Writes tensors and primitives to `path`, through a temporary file that is synced and renamed.

    Raises OSError if writing fails; the file that was at `path` is then unchanged.
    """
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getbuffer()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(hashlib.sha256(data).hexdigest().encode() + b"\n")
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def verify_checksum(path: Path) -> bytes:
    """Returns the content as torch's bytes.

    Raises OSError if the file cannot be read, DamagedFile if the checksum does not match.
    """
    checksum, _, data = path.read_bytes().partition(b"\n")
    if hashlib.sha256(data).hexdigest().encode() != checksum:
        raise DamagedFile("its content does not match its SHA-256 checksum")
    return data


def load_checksummed(path: Path) -> Any:
    """Returns the content, with tensors on the CPU.

    Raises OSError if the file cannot be read, DamagedFile if its content is not what was written.
    """
    import torch

    data = verify_checksum(path)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise DamagedFile(f"torch cannot read it: {str(error).splitlines()[0]}") from error


def load_or_warn(path: Path, consequence: str) -> Any:
    """Returns the content, or None after a warning if the file is missing or damaged.

    consequence: what the missing content means, as the warning should say it.
    """
    try:
        return load_checksummed(path)
    except OSError as error:
        _logger.warning("cannot read %s: %s", path, error)
    except DamagedFile as error:
        _logger.warning("%s is damaged; %s: %s", path, consequence, error)
    return None


def _sync(folder: Path) -> None:
    """Makes a renamed file survive a power cut, on systems that can sync a folder."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
