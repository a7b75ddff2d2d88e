"""Labels where room is short."""

from __future__ import annotations

import re
from collections.abc import Sequence

LABEL = re.compile(r"(?P<name>\w+)\((?P<option>\w+)=(?P<value>(?:(?!, \w+=).)+)\)")
"""A component with one option, as labels tell it."""


def shortened(title: str, labels: Sequence[str]) -> tuple[str, list[str]]:
    """Labels and their title, with an option that all of them share told once: "mlp(hidden=[16])"
    is "mlp [16]" under "model (hidden)". As they are where there is no such option."""
    found = [LABEL.fullmatch(label) for label in labels]
    options = {match["option"] for match in found if match}
    if len(options) != 1:
        return title, list(labels)
    short = [
        f"{match['name']} {match['value']}" if match else label
        for label, match in zip(labels, found, strict=True)
    ]
    return f"{title} ({options.pop()})", short
