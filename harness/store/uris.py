"""Addresses of stores: the default one, their parts, and how to show them without secrets.

`python -m harness.store.uris` prints the default one, as `make ui` needs it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

from harness.core import paths

DEFAULT_FILE = "mlflow.db"
"""The name of a project's own database."""
_SPECIAL = re.compile(r"[^\w./ -]")
_USER = re.compile(r"([a-z][a-z0-9+.-]*://)[^\s'\"<>]*@", re.IGNORECASE)
_QUERY = re.compile(
    r"([?&][^=&\s]*(?:passw|pwd|token|secret|key|sig|credential)[^=&\s]*=)[^&\s'\"<>]+",
    re.IGNORECASE,
)


def default_uri(root: Path | None = None) -> str:
    """Returns the address of the store that is opened if none is given, with its credentials.

    root: the project's folder, by default `paths.project_root()`.
    """
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(store_folder(root) / DEFAULT_FILE)


def sqlite_uri(path: Path) -> str:
    """Returns the address of a SQLite file, with the characters quoted that mean something in one.

    Plain paths stay readable, and need no import of SQLAlchemy.
    """
    if not _SPECIAL.search(str(path)):
        return f"sqlite:///{path}"
    from sqlalchemy import URL, make_url

    # With the driver's name MLflow does not create a folder of the quoted path's name.
    uri = URL.create("sqlite+pysqlite", database=str(path)).render_as_string(hide_password=False)
    if make_url(uri).database == str(path):
        return uri
    # SQLAlchemy 2.0 quotes nothing; SQLite's own addresses do.
    return f"sqlite+pysqlite:///file:{quote(str(path))}?uri=true"


def store_folder(root: Path | None = None) -> Path:
    """Returns the folder of a project's store."""
    return (root or paths.project_root()).resolve() / "mlruns"


def database_of(uri: str) -> Path | None:
    """Returns the file of a SQLite store, or None for any other address."""
    if scheme(uri) != "sqlite":
        return None
    location = uri.partition(":///")[2].partition("?")[0]
    if "%" in location or "uri=" in uri:
        from sqlalchemy import make_url

        url = make_url(uri)
        location = url.database or ""
        if url.query.get("uri") and location.startswith("file:"):
            location = unquote(location.removeprefix("file:"))
    return None if location in ("", ":memory:") else Path(location).absolute()


def local_path(uri: str) -> Path | None:
    """Returns the path that a run's or an experiment's files have on this machine, or None if they
    are elsewhere."""
    address = urlsplit(uri)
    if address.scheme == "":
        return Path(uri)
    return Path(unquote(address.path)) if address.scheme == "file" else None


def scheme(uri: str) -> str:
    """Returns "sqlite", "http", "postgresql" (of "postgresql+psycopg"), …; "" for a bare path."""
    match = re.match(r"([a-z][a-z0-9.-]*)(\+[a-z0-9_]+)?:", uri, re.IGNORECASE)
    return match.group(1).lower() if match else ""


def redact(text: str) -> str:
    """Returns `text` without the user, the password and secret query values of every URI in it.

    Everything up to the last @ of a URI goes: a password may itself hold "/" or "@".
    """
    return _QUERY.sub(r"\1***", _USER.sub(r"\1***@", text))


if __name__ == "__main__":
    print(default_uri())
