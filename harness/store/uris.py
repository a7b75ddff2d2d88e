"""Addresses of stores, told to people without the secrets in them."""

from __future__ import annotations

import re

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
