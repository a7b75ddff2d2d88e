"""Addresses of stores: the default one, their parts, and how to show them without secrets."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlparse

from harness.core import paths

_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&][^=&\s]*(?:passw|pwd|token|secret|key|sig|credential)[^=&\s]*=)[^&\s'\"<>]+",
    re.IGNORECASE,
)


def default_uri(root: Path | None = None) -> str:
    """Returns the address of the store that is opened if none is given, with its credentials.

    root: the project's folder, by default `paths.project_root()`.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{store_folder(root) / 'mlflow.db'}"


def store_folder(root: Path | None = None) -> Path:
    """Returns the folder of a project's store."""
    return (root or paths.project_root()).resolve() / "mlruns"


def database_of(uri: str) -> Path | None:
    """Returns the file of a SQLite store, or None for any other address."""
    location = uri.removeprefix("sqlite:///").split("?")[0]
    if location == uri or location in ("", ":memory:"):
        return None
    return Path(location).absolute()


def local_path(uri: str) -> Path | None:
    """Returns the path that a run's or an experiment's files have on this machine, or None if they
    are elsewhere."""
    address = urlparse(uri)
    return Path(unquote(address.path)) if address.scheme in ("", "file") else None


def scheme(uri: str) -> str:
    """Returns "sqlite", "http", "postgresql" (of "postgresql+psycopg"), …; "" for a bare path."""
    match = re.match(r"([a-z][a-z0-9.-]*)(\+[a-z0-9_]+)?:", uri, re.IGNORECASE)
    return match.group(1).lower() if match else ""


def redact(text: str) -> str:
    """Returns `text` without the user, the password and secret query values of every URI in it.

    Everything up to the last @ of a URI goes: a password may itself hold "/" or "@".
    """
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))
