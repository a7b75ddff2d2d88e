"""Files that are whole or not there: a line with the SHA-256 of what follows, then tensors and
primitives as torch saves them."""

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


class Damaged(Exception):
    """A sealed file that does not hold what was written."""


def write_sealed(path: Path, content: object) -> None:
    """Written beside its place, synced, then moved there. Raises OSError, and leaves what lay at
    `path` as it was."""
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


def verify_sealed(path: Path) -> bytes:
    """What was written, not yet read by torch. Raises OSError where the file cannot be read,
    Damaged where it is not what was written."""
    checksum, _, data = path.read_bytes().partition(b"\n")
    if hashlib.sha256(data).hexdigest().encode() != checksum:
        raise Damaged("its content is not what was written (SHA-256)")
    return data


def load_sealed(path: Path) -> Any:
    """Raises OSError where the file cannot be read, Damaged where it is not what was written."""
    import torch

    data = verify_sealed(path)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise Damaged(f"torch cannot read it: {str(error).splitlines()[0]}") from error


def read_sealed(path: Path, lost: str) -> Any:
    """None, with a warning that says what is lost, where the file is damaged or gone."""
    try:
        return load_sealed(path)
    except OSError as error:
        _logger.warning("cannot read %s: %s", path, error)
    except Damaged as error:
        _logger.warning("%s is damaged; %s: %s", path, lost, error)
    return None


def _sync(folder: Path) -> None:
    """So that a file just moved into it is there after a power cut; where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
