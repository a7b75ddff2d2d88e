"""Published figures, checked against what was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from harness.analysis.resolution import differences, noise_of
from harness.analysis.statistics import standard_deviation
from harness.analysis.trials import matching
from harness.core.metrics import BEST, FINAL
from harness.core.records import FINISHED, Outcome
from harness.core.text import format_value
from harness.store.names import PARAM_CONFIG

Finding = Literal["reproduced", "off", "insufficient data"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedFigure:
    """A published figure beside ours.

    metric, value, tolerance, source, where: as published (see `experiment.Expectation`).
    mean, sd, n: ours over seeds; None if there is none. difference: mean − value.
    config_id: the config that ours is of.
    candidates: how many configs meet `where`; the best one in rank is taken.
    trials, diverged, failed, unfinished: of that config, or of all candidates if none has a value.
    missing: how many trials of that config the experiment asks for and the store does not have.
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
    failed: int = 0
    unfinished: int = 0
    missing: int = 0

    @property
    def complete(self) -> bool:
        """Whether ours is a mean over every trial that was asked for."""
        return self.n == self.trials and not self.missing


def check(
    expected: Mapping[str, Any],
    trials: pd.DataFrame,
    order: Mapping[str, int],
    wanted: Mapping[str, int],
) -> PublishedFigure:
    """Checks one published figure.

    A figure is reproduced if each trial that was asked for is done and the mean lies within the
    tolerance. Where a trial diverged, failed or is missing, the mean of the others is no proof.

    expected: with the fields of `experiment.Expectation`. order: the rank of each config.
    wanted: how many trials each config should have.
    """
    where = expected["where"]
    candidates = matching(trials, where)
    values = _values(candidates, expected["metric"])
    config_id = min(values, key=lambda config: order[config], default=None)
    ours = candidates if config_id is None else candidates[candidates[PARAM_CONFIG] == config_id]
    outcomes = Counter(ours["outcome"])
    figure = PublishedFigure(
        metric=expected["metric"],
        value=expected["value"],
        tolerance=expected["tolerance"],
        where=", ".join(f"{name}={_text(value)}" for name, value in where.items()),
        source=expected.get("source", ""),
        finding="insufficient data",
        candidates=candidates[PARAM_CONFIG].nunique(),
        trials=len(ours),
        diverged=outcomes[Outcome.DIVERGED],
        failed=outcomes[Outcome.FAILED],
        unfinished=len(ours) - sum(outcomes[of] for of in (*FINISHED, Outcome.FAILED)),
    )
    if config_id is None:
        return figure
    over_seeds = values[config_id]
    mean = float(over_seeds.mean())
    figure = replace(
        figure,
        mean=mean,
        sd=standard_deviation(np.array(over_seeds, dtype=float)) if len(over_seeds) > 1 else None,
        n=len(over_seeds),
        difference=float(differences([mean], [figure.value])[0]),
        config_id=config_id,
        missing=max(wanted.get(config_id, 0) - len(ours), 0),
    )
    finding = judge(mean, figure.value, figure.tolerance)
    return replace(
        figure, finding=finding if figure.complete or finding == "off" else figure.finding
    )


def judge(mean: float, value: float, tolerance: float) -> Finding:
    """Returns "reproduced" if the mean lies within the tolerance, its ends included."""
    # .97 − .96 is a little more than .01 in binary.
    within = abs(mean - value) <= tolerance + noise_of([mean, value])
    return "reproduced" if within else "off"


def _values(trials: pd.DataFrame, metric: str) -> dict[str, pd.Series[float]]:
    """Returns the metric's values over seeds by config, for configs that have values."""
    column = metric if metric.startswith((BEST, FINAL)) else FINAL + metric
    if column not in trials.columns:
        return {}
    done = trials[(trials["outcome"] == Outcome.DONE) & trials[column].notna()]
    return {str(config): of[column] for config, of in done.groupby(PARAM_CONFIG)}


def _text(value: Any) -> str:
    """Returns a condition's value as labels show it: "mlp(hidden=[16])"."""
    if isinstance(value, Mapping) and "name" in value:
        options = [f"{key}={format_value(item)}" for key, item in value.items() if key != "name"]
        return f"{value['name']}({', '.join(options)})" if options else str(value["name"])
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    return format_value(value)
