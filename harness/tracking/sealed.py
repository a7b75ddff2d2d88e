"""Files that are whole or not there: a line with the SHA-256 of what follows, then tensors and
primitives as torch saves them."""

from __future__ import annotations

import hashlib
import io
import logging
import os
from pathlib import Path
from typing import Any

_logger = logging.getLogger(__name__)


def write_sealed(path: Path, content: object) -> None:
    """Written beside its place, synced, then moved there. Raises OSError."""
    import torch

    buffer = io.BytesIO()
    torch.save(content, buffer)
    data = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            file.write(hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read_sealed(path: Path, lost: str) -> Any:
    """None, with a warning that says what is lost, where the file is damaged or gone."""
    import torch

    try:
        checksum, _, data = path.read_bytes().partition(b"\n")
    except OSError as error:
        _logger.warning("cannot read %s: %s", path, error)
        return None
    if hashlib.sha256(data).hexdigest().encode() != checksum:
        _logger.warning("%s is damaged; %s", path, lost)
        return None
    return torch.load(io.BytesIO(data), weights_only=True)
