"""Text from a store, made safe to show: names of runs are whatever someone wrote."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """Text in one line, without the control characters that steer a terminal or reverse a line."""
    spaced = " ".join(text.split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf") else c for c in spaced)
