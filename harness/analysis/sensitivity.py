"""How much depends on the learning rate: which are too low, good, too high, or diverge.

The rule, on the score after the last epoch (a net that was good once and then broke is not good):

- gain: of the best learning rate over the untrained net. Kept: the part of it that another
  learning rate reaches, cut to 0 … 1, so that a loss that exploded counts as untrained, no worse.
- `diverged`: half or more of the finished trials have no finite loss.
- `good`: keeps `KEPT` of the gain, or more.
- otherwise `too low` below the best learning rate, and `too high` above it.

The sensitivity is the mean loss of gain over the learning rates: 0 where all are as good as the
best, near 1 where only one is (after Wortsman et al., 2023, whose losses are cut at the untrained
one's, here divided by the gain so that metrics and tasks compare).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, log10
from typing import Literal

import numpy as np

from harness.analysis.summary import Interval, bootstrap
from harness.analysis.tuned import Edge, lr_edge

KEPT = 0.95
DIVERGED_PART = 0.5

Regime = Literal["too low", "good", "too high", "diverged", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One learning rate, at the best of whatever else varies (chosen on the same score).

    final: mean after the last epoch over n seeds; None where nothing was done. interval: of it.
    kept: see above; None where the gain is not known or not above 0.
    """

    lr: float
    n: int
    diverged: int
    final: float | None
    interval: Interval
    kept: float | None
    regime: Regime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """Rates of one contender on one task, ascending.

    untrained: the score before training; None where it is not known, and then all that needs it is.
    good: the lowest and highest of the good rates around the best, with none between that is not.
    decades: how wide that is. edge: where the best rate lies. open_ended: whether the good region
    reaches the grid's edge, so that it may be wider. sensitivity: see above.
    """

    task: str
    contender: str
    rates: tuple[Rate, ...]
    untrained: float | None
    best: float | None
    good: tuple[float, float] | None
    decades: float | None
    edge: Edge | None
    open_ended: bool
    sensitivity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finals:
    """Trials of one config: its learning rate, final scores that are finite, and how many of the
    finished trials diverged."""

    lr: float
    values: tuple[float, ...]
    diverged: int


def sensitivity(
    task: str,
    contender: str,
    finals: Sequence[Finals],
    untrained: float | None,
    direction: Literal["max", "min"],
    generator: np.random.Generator,
) -> Sensitivity:
    """finals: one or more configs a learning rate. untrained: mean score at epoch 0."""
    sign = 1 if direction == "max" else -1
    best_of = _best_of_each(finals, sign)
    means = {lr: _mean(of) for lr, of in best_of.items()}
    alive = [lr for lr, mean in means.items() if mean is not None and not _diverged(best_of[lr])]
    best = max(alive, key=lambda lr: (sign * (means[lr] or 0.0), -lr), default=None)
    top = None if best is None else means[best]
    gain = None if top is None or untrained is None else sign * (top - untrained)
    kept = {lr: _kept(mean, untrained, gain, sign) for lr, mean in means.items()}
    rates = tuple(
        Rate(
            lr=lr,
            n=len(of.values),
            diverged=of.diverged,
            final=means[lr],
            interval=bootstrap(np.array(of.values, dtype=float), generator),
            kept=kept[lr],
            regime=_regime(lr, best, kept[lr], _diverged(of)),
        )
        for lr, of in sorted(best_of.items())
    )
    region = _region(rates, best)
    return Sensitivity(
        task=task,
        contender=contender,
        rates=rates,
        untrained=untrained,
        best=best,
        good=region,
        decades=None if region is None else log10(region[1] / region[0]),
        edge=None
        if best is None
        else lr_edge(str(best), [str(rate.lr) for rate in rates if rate.n or rate.diverged]),
        open_ended=region is not None and (region[0] == rates[0].lr or region[1] == rates[-1].lr),
        sensitivity=_lost(rates, gain),
    )


def _best_of_each(finals: Sequence[Finals], sign: int) -> dict[float, Finals]:
    """Of each learning rate the config that diverges least, then scores best."""
    found: dict[float, Finals] = {}

    def key(of: Finals) -> tuple[float, float]:
        mean = _mean(of)
        part = of.diverged / max(len(of.values) + of.diverged, 1)
        return part, np.inf if mean is None else -sign * mean

    for of in finals:
        if of.lr not in found or key(of) < key(found[of.lr]):
            found[of.lr] = of
    return found


def _mean(of: Finals) -> float | None:
    # A sum of exploded losses may overflow, and then is no number to average.
    mean = float(np.mean(of.values)) if of.values else None
    return mean if mean is not None and isfinite(mean) else None


def _diverged(of: Finals) -> bool:
    finished = len(of.values) + of.diverged
    return of.diverged > 0 and of.diverged >= DIVERGED_PART * finished


def _kept(
    mean: float | None, untrained: float | None, gain: float | None, sign: int
) -> float | None:
    if gain is None or untrained is None or gain <= 0:
        return None
    return 0.0 if mean is None else min(max(sign * (mean - untrained) / gain, 0.0), 1.0)


def _regime(lr: float, best: float | None, kept: float | None, diverged: bool) -> Regime:
    if diverged:
        return "diverged"
    if kept is None or best is None:
        return "unknown"
    if kept >= KEPT:
        return "good"
    return "too low" if lr < best else "too high"


def _region(rates: Sequence[Rate], best: float | None) -> tuple[float, float] | None:
    place = next((i for i, rate in enumerate(rates) if rate.lr == best), None)
    if place is None or rates[place].regime != "good":
        return None
    low = high = place
    while low > 0 and rates[low - 1].regime == "good":
        low -= 1
    while high + 1 < len(rates) and rates[high + 1].regime == "good":
        high += 1
    return rates[low].lr, rates[high].lr


def _lost(rates: Sequence[Rate], gain: float | None) -> float | None:
    if gain is None or gain <= 0:
        return None
    known = [
        1 - (0.0 if rate.regime == "diverged" or rate.kept is None else rate.kept)
        for rate in rates
        if rate.n or rate.diverged
    ]
    return float(np.mean(known)) if len(known) > 1 else None


def group_finals(
    configs: Sequence[tuple[str, str, Finals]],
) -> Mapping[tuple[str, str], list[Finals]]:
    """(task, contender, finals) by task and contender, in their order."""
    groups: dict[tuple[str, str], list[Finals]] = defaultdict(list)
    for task, contender, finals in configs:
        groups[task, contender].append(finals)
    return groups
