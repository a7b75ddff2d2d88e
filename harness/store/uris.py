"""Addresses of stores, told to people without the secrets in them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.core import paths

_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&][^=&\s]*(?:passw|pwd|token|secret|key|sig|credential)[^=&\s]*=)[^&\s'\"<>]+",
    re.IGNORECASE,
)


def redact(text: str) -> str:
    """`text` with the user, the password and secret-like query values of every URI replaced.

    Everything up to a URI's last @ goes: a password may itself hold "/" or "@".
    """
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))


def scheme(uri: str) -> str:
    """ "sqlite", "http", "postgresql" (of "postgresql+psycopg"), …; "" for a bare path."""
    found = re.match(r"([a-z][a-z0-9.-]*)(\+[a-z0-9_]+)?:", uri, re.IGNORECASE)
    return found.group(1).lower() if found else ""


def default_uri(root: Path | None = None) -> str:
    """The store that is opened where none is named; with its credentials."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_folder(root) / 'mlflow.db'}"


def database_of(uri: str) -> Path | None:
    """The file of a SQLite store; None where the address is not of one."""
    location = uri.removeprefix("sqlite:///").split("?")[0]
    if location == uri or location in ("", ":memory:"):
        return None
    return Path(location).absolute()


def store_folder(root: Path | None) -> Path:
    return (root or paths.project_root()).resolve() / "mlruns"
