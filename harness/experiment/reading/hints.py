"""Hints for names and values that stand in the wrong place: where they belong, or the closest
valid name."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from math import isfinite
from typing import Any, Final

from harness.components.registry import components
from harness.core.errors import closest, did_you_mean
from harness.core.metrics import BEST, FINAL
from harness.core.text import format_value
from harness.experiment.fields import SPLITS, FileFields, SearchFields, is_known, split
from harness.experiment.trial import COMPONENT_FIELDS, TRIAL_FIELDS

LOSS: Final = "loss"
"""Recorded on every split beside the metrics; what training minimises."""

_SPLIT_NAMES: Final = dict.fromkeys(("valid", "validation", "dev", "eval"), "val") | {
    "training": "train",
    "testing": "test",
}
_RANGE: Final = "a range is searched: write it in search.space, as {low: …, high: …}"
_TRIAL_FIELDS_BELONG: Final = {
    "": "in `trial:` with one value, or in `grid:` with a list of values",
    "search": "in search.space where it is searched, else in `trial:` or `grid:`",
    "skip": "in `when:`",
    "expect": "in `where:`",
}
"""Where a trial field belongs that stands in a section, by section."""


def misplaced(name: str, section: str) -> str:
    """Returns where an unknown name of a section belongs; "" if no section has it.

    section: "trial", "grid", "search", "skip" or "expect"; "" for the top level.
    """
    if is_known(name) and section in _TRIAL_FIELDS_BELONG:
        return f"{name} belongs {_TRIAL_FIELDS_BELONG[section]}"
    if name in SearchFields.model_fields and section in ("", "trial", "grid"):
        return f"{name} belongs in `search:`"
    if name in FileFields.model_fields and section:
        return f"{name} belongs at the top level of the file"
    if ":" in name:
        return "put a space after the colon"
    return _suggested_option(name, section)


def _suggested_option(name: str, section: str) -> str:
    """Returns a hint where the name is an option that lacks the name of its component's field."""
    dotted = " or ".join(map(repr, _options().get(name, ())))
    if not dotted:
        return ""
    belongs = _TRIAL_FIELDS_BELONG.get(section)
    return f"did you mean {dotted}?" + (f" It belongs {belongs}" if belongs else "")


def _options() -> dict[str, list[str]]:
    """Returns each option of a component, with the field's name before it: "optimizer.eps"."""
    options: dict[str, list[str]] = {}
    for root, kind in COMPONENT_FIELDS.items():
        for option in {name for c in components(kind).values() for name in c.options.model_fields}:
            options.setdefault(option, []).append(f"{root}.{option}")
    return options


def field_hint(name: str, allowed: Iterable[str] = TRIAL_FIELDS, section: str = "trial") -> str:
    """Returns a hint for an unknown name: where it belongs, or the closest name.

    section: as `misplaced` takes it.
    """
    if place := misplaced(name, section):
        return place
    names, options = list(allowed), _options()
    root, option = split(name)
    near = closest(root, [*names, *TRIAL_FIELDS])
    if option:
        dotted = options.get(option, ())
        near = next((full for full in dotted if split(full)[0] == near), near)
    elif not near:
        near = "".join(options.get(closest(name, options), [])[:1])
    place = "" if near in names else misplaced(near, section)
    return place or did_you_mean(name, names, near)


def metric_hint(given: str, *, figures: bool = False) -> str:
    """Returns a hint for a text that is not a split and a metric: "val_acc" means "val/accuracy".

    figures: "best/" or "final/" may stand before the split.
    """
    prefix = next((p for p in (BEST, FINAL) if figures and given.startswith(p)), "")
    first, _, rest = re.sub(r"[^A-Za-z0-9]+", "/", given.removeprefix(prefix)).partition("/")
    first = _SPLIT_NAMES.get(first.lower(), first.lower())
    meant = f"{first}/{rest}" if rest and first in SPLITS else f"val/{first}/{rest}"
    measures = [f"{split}/{name}" for split in SPLITS for name in (LOSS, *components("metrics"))]
    near = closest(meant, measures)
    return did_you_mean(given, measures, prefix + near if near else "")


def value_hint(value: Any, *, number: bool = False) -> str:
    """Returns a hint for a value that is given in a form of another place; "" if there is none.

    number: the field takes a number.
    """
    if isinstance(value, Mapping) and {"low", "high", "min", "max"} & set(value):
        return _RANGE
    if isinstance(value, list):
        return "several values belong in `grid:`"
    if number and isinstance(value, float) and value.is_integer():
        return f"write it as {int(value)}"
    if number and isinstance(value, str):
        if _is_number(value):
            return f"write it as {format_value(float(value))}"
        if all(map(_is_number, value.split(","))):
            return f"write several values as a list: [{value}]"
    return ""


def _is_number(text: str) -> bool:
    try:
        return isfinite(float(text))
    except ValueError:
        return False
