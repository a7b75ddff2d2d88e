"""What was measured on this machine before, kept in small files beside the store."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

Known = dict[str, dict[str, float]]


def load_measurements(file: Path) -> Known:
    """Empty where the file is absent or damaged: measuring again costs seconds."""
    with suppress(OSError, ValueError):
        known: Any = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(known, dict) and all(isinstance(v, dict) for v in known.values()):
            return known
    return {}


def save_measurements(file: Path, known: Mapping[str, Mapping[str, float]]) -> None:
    """Add to what the file holds; of several processes at once, one may be forgotten."""
    partial = file.with_suffix(f".{os.getpid()}.partial")
    file.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(
        json.dumps(load_measurements(file) | dict(known), indent=1), encoding="utf-8"
    )
    partial.replace(file)


def machine_key(cores: int) -> str:
    """This machine, as far as speed depends on it."""
    node, kind = platform.node(), platform.machine()
    return f"{node} {kind} {cores} cores torch {version('torch')}"
