"""Text from a store, made safe to show: anybody may have named a run."""

from __future__ import annotations

import unicodedata


def clean(text: str) -> str:
    """Returns text on one line, without the control characters that steer a terminal or reverse
    the direction of writing."""
    one_line = " ".join(text.split())
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cf") else c for c in one_line)
