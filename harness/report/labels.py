"""Short names of configs, for sentences and narrow columns."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.analysis.configs import name_of

ONE_OPTION = re.compile(r"(?P<name>\w+)\((?P<option>\w+)=(?P<value>(?:(?!, \w+=).)+)\)")
"""A component's label with one option."""


def describe(fields: Mapping[str, str]) -> str:
    """Returns a config for a sentence: "lr 0.01, adam, cosine, batch_size 32"."""
    return name_of(fields, [name for name in dict.fromkeys(("lr", *fields)) if name in fields])


def shorten_labels(title: str, labels: Sequence[str]) -> tuple[str, list[str]]:
    """Moves an option that all labels share into their title: "mlp(hidden=[16])" becomes "mlp [16]"
    under "model (hidden)". Returns title and labels as they are if they share no single option."""
    matches = [ONE_OPTION.fullmatch(label) for label in labels]
    options = {match["option"] for match in matches if match}
    if len(options) != 1:
        return title, list(labels)
    short = [
        f"{match['name']} {match['value']}" if match else label
        for label, match in zip(labels, matches, strict=True)
    ]
    return f"{title} ({options.pop()})", short
