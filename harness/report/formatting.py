"""Numbers and configs as people read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from math import isfinite

from harness.analysis.configs import name_of
from harness.analysis.statistics import Interval
from harness.core.text import DECIMALS, decimals_of, format_score

MISSING = "–"
MOST_DECIMALS = 6
"""Most decimals of a probability, which it has near 0, one half and 1."""
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


def decimals_for(values: Iterable[float | None]) -> int:
    """Returns the decimals for a column, by its first value that is not 0, which is the best one
    (see `decimals_of`)."""
    known = (value for value in values if value and isfinite(value))
    return decimals_of(next(known, 1.0))


def significant(value: float | None, decimals: int = DECIMALS) -> str:
    """Returns a score with so many decimals, and three significant digits or more; "–" if it is
    missing."""
    return MISSING if value is None else format_score(value, decimals)


def figure(value: float | None, decimals: int = DECIMALS) -> str:
    """Returns a number with so many decimals, which is 0 only if the number is; "–" if it is
    missing."""
    return MISSING if value is None else format_score(value, decimals, digits=1)


def spread(mean: float | None, sd: float | None, decimals: int = DECIMALS) -> str:
    """Returns mean ± standard deviation: "0.9832 ± 0.0021"; "0.9832 ± –" for one seed."""
    if mean is None:
        return MISSING
    return f"{significant(mean, decimals)} ± {figure(sd, decimals)}"


def signed(value: float | None, decimals: int = DECIMALS) -> str:
    """Returns a difference with its sign; 0 has none."""
    if value is None:
        return MISSING
    return ("+" if value > 0 else "-" if value < 0 else "") + figure(abs(value), decimals)


def bracketed(interval: Interval, decimals: int) -> str:
    """Returns "[0.81, 0.99]"; the reason if there is no interval."""
    if interval.low is None or interval.high is None:
        return interval.method
    return f"[{figure(interval.low, decimals)}, {figure(interval.high, decimals)}]"


def probability(value: float | None, interval: Interval | None = None) -> str:
    """Returns ".94", or ".94 [.81, .99]", without the leading 0 as statisticians write it. A
    probability that is not one half does not look like it: ".504"."""
    if value is None:
        return MISSING
    looks_like = (f"{value:.{decimals}f}" for decimals in range(2, MOST_DECIMALS + 1))
    exact = (text for text in looks_like if float(text) not in (0, 0.5, 1) or float(text) == value)
    text = next(exact, f"{value:.2g}").removeprefix("0")
    if interval is None:
        return text
    if interval.low is None or interval.high is None:
        reason = "all resamples agree" if interval.method == "degenerate" else interval.method
        return f"{text} (no interval: {reason})"
    return f"{text} [{probability(interval.low)}, {probability(interval.high)}]"


def p_value(p: float | None) -> str:
    """Returns ".031"; "<.001"."""
    if p is None:
        return MISSING
    if p < 0.001:
        return "<.001"
    return "1" if p >= 0.9995 else f"{p:.3f}"[1:]
