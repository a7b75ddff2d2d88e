"""Published figures against what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Any, Literal

import pandas as pd

from harness.analysis.filters import matching
from harness.core.metrics import BEST, FINAL
from harness.core.records import Outcome
from harness.core.text import format_value
from harness.store.names import PARAM_CONFIG

Finding = Literal["reproduced", "off", "insufficient data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A published figure and ours.

    metric, value, tolerance, source, where: as published (`experiment.Expectation`).
    mean, sd, n: ours over seeds; None where there is none. difference: mean − value.
    config_id: the config they are of. candidates: configs of which `where` holds; of several the
    best one in rank is taken.
    trials, diverged: of that config, or of all candidates where none has a value.
    """

    metric: str
    value: float
    tolerance: float
    where: str
    source: str
    finding: Finding
    mean: float | None = None
    sd: float | None = None
    n: int = 0
    difference: float | None = None
    config_id: str | None = None
    candidates: int = 0
    trials: int = 0
    diverged: int = 0


def check(expected: Mapping[str, Any], trials: pd.DataFrame, order: Mapping[str, int]) -> Checked:
    """Compare one figure with the trials of which its `where` holds.

    order: each config's place among all, the best first.
    """
    published = {name: expected[name] for name in ("metric", "value", "tolerance")}
    where = expected.get("where") or {}
    told = ", ".join(f"{name}={_told(wanted)}" for name, wanted in where.items())
    published |= {"where": told, "source": expected.get("source", "")}
    found = matching(trials, where)
    candidates = sorted(set(found[PARAM_CONFIG]), key=lambda config: order[config])
    values = _values(found, expected["metric"])
    of = next((config for config in candidates if config in values), None)
    ours = found if of is None else found[found[PARAM_CONFIG] == of]
    common = {
        **published,
        "candidates": len(candidates),
        "trials": len(ours),
        "diverged": int((ours["outcome"] == Outcome.DIVERGED).sum()),
    }
    if of is None:
        return Checked(**common, finding="insufficient data")
    mean = float(values[of].mean())
    return Checked(
        **common,
        finding=compare(mean, expected["value"], expected["tolerance"]),
        mean=mean,
        sd=float(values[of].std(ddof=1)) if len(values[of]) > 1 else None,
        n=len(values[of]),
        difference=mean - expected["value"],
        config_id=of,
    )


def compare(mean: float, value: float, tolerance: float) -> Finding:
    """Reproduced where the mean lies within the tolerance, its ends included."""
    distance = abs(mean - value)
    # .97 − .96 is a little more than .01 in binary.
    within = distance <= tolerance or isclose(distance, tolerance, rel_tol=1e-9)
    return "reproduced" if within else "off"


def _values(found: pd.DataFrame, metric: str) -> dict[str, pd.Series[float]]:
    """The metric's values over seeds, by config; only configs that have some."""
    column = metric if metric.startswith((BEST, FINAL)) else FINAL + metric
    if column not in found.columns:
        return {}
    done = found[(found["outcome"] == Outcome.DONE) & found[column].notna()]
    return {str(config): of[column] for config, of in done.groupby(PARAM_CONFIG)}


def _told(wanted: Any) -> str:
    if isinstance(wanted, Mapping) and "name" in wanted:
        options = [f"{key}={format_value(item)}" for key, item in wanted.items() if key != "name"]
        return f"{wanted['name']}({', '.join(options)})" if options else str(wanted["name"])
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        return "[" + ", ".join(_told(item) for item in wanted) + "]"
    return format_value(wanted)
