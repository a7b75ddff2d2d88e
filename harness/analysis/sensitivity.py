"""Sensitivity to the learning rate: which rates are too low, good, too high, or diverge.

The rule reads the score after the last epoch, so that a net that was good and then broke is not
called good:

- The gain is what the best learning rate reaches beyond the untrained net. A learning rate keeps
  the share of the gain that it reaches, clipped to 0 … 1: a loss that exploded counts as untrained.
- `diverged`: at least half of the finished trials have no finite loss.
- `good`: keeps at least `KEPT` of the gain.
- otherwise `too low` below the best learning rate, and `too high` above it.

The sensitivity is the mean share of the gain that is lost over the learning rates: 0 if all are as
good as the best, near 1 if only one is. It follows Wortsman et al. (2023), who clip losses at the
untrained one's; dividing by the gain makes metrics and tasks comparable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite, log10
from typing import Literal

import numpy as np

from harness.analysis.ranking import Edge, lr_edge
from harness.analysis.resolution import exceeds, resolve
from harness.analysis.statistics import Interval, bootstrap
from harness.core.metrics import Direction

KEPT = 0.95
DIVERGED_SHARE = 0.5

Regime = Literal["too low", "good", "too high", "diverged", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RateResult:
    """One learning rate, at the best of whatever else varies (chosen on the same score).

    final: mean score after the last epoch over n seeds; None if no trial was done.
    interval: of that mean. kept: the share of the gain, as above; None if the gain is not known or
        not above 0.
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
    """The learning rates of one contender on one task, in ascending order.

    untrained: the score before training; None if it is not known, and then what depends on it is
        None too.
    good: the lowest and the highest of the good rates around the best, without a gap.
    decades: the width of that region. edge: where the best rate lies.
    open_ended: whether the region reaches an end of the grid, so that it may be wider.
    sensitivity: see above.
    """

    task: str
    contender: str
    rates: tuple[RateResult, ...]
    untrained: float | None
    best: float | None
    good: tuple[float, float] | None
    decades: float | None
    edge: Edge | None
    open_ended: bool
    sensitivity: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalScores:
    """The final scores of one config: its learning rate, the scores that are finite, and how many
    finished trials diverged."""

    lr: float
    values: tuple[float, ...]
    diverged: int

    @property
    def mean(self) -> float | None:
        # A sum of losses that exploded may overflow, and is then no mean.
        mean = float(np.mean(self.values)) if self.values else None
        return mean if mean is not None and isfinite(mean) else None

    @property
    def divergence(self) -> float:
        return self.diverged / max(len(self.values) + self.diverged, 1)

    @property
    def has_diverged(self) -> bool:
        return self.divergence >= DIVERGED_SHARE


def sensitivity(
    task: str,
    contender: str,
    finals: Sequence[FinalScores],
    untrained: float | None,
    direction: Direction,
    generator: np.random.Generator,
) -> Sensitivity:
    """Labels the learning rates of a contender.

    finals: of one or more configs for each learning rate.
    untrained: the mean score at epoch 0.
    """
    sign = 1 if direction == "max" else -1
    by_lr = _best_of_each(finals, sign)
    alive = {lr: of.mean for lr, of in by_lr.items() if of.mean is not None and not of.has_diverged}
    alive = dict(zip(alive, resolve(list(alive.values())).tolist(), strict=True))
    best = max(alive, key=lambda lr: (sign * alive[lr], -lr), default=None)
    gain = 0.0
    if best is not None and untrained is not None:
        gained = exceeds(sign * alive[best], sign * untrained)
        gain = sign * (alive[best] - untrained) if gained else 0.0
    rates = []
    for lr, of in sorted(by_lr.items()):
        kept = None
        if untrained is not None and gain > 0:
            above = 0.0 if of.mean is None else sign * (of.mean - untrained)
            kept = min(max(above / gain, 0.0), 1.0)
        rates.append(
            RateResult(
                lr=lr,
                n=len(of.values),
                diverged=of.diverged,
                final=of.mean,
                interval=bootstrap(np.array(of.values, dtype=float), generator),
                kept=kept,
                regime="diverged" if of.has_diverged else _regime(lr, best, kept),
            )
        )
    good = _good_region(rates, best)
    tried = [str(rate.lr) for rate in rates if rate.n or rate.diverged]
    return Sensitivity(
        task=task,
        contender=contender,
        rates=tuple(rates),
        untrained=untrained,
        best=best,
        good=good,
        decades=None if good is None else log10(good[1] / good[0]),
        edge=None if best is None else lr_edge(str(best), tried),
        open_ended=good is not None and (good[0] == rates[0].lr or good[1] == rates[-1].lr),
        sensitivity=_lost(rates) if gain > 0 else None,
    )


def _best_of_each(finals: Sequence[FinalScores], sign: int) -> dict[float, FinalScores]:
    """Returns, for each learning rate, the config that diverges least and then scores best."""

    means = resolve([-sign * np.inf if of.mean is None else of.mean for of in finals])
    keys = [(of.divergence, -sign * mean) for of, mean in zip(finals, means, strict=True)]
    best: dict[float, int] = {}
    for place, of in enumerate(finals):
        if of.lr not in best or keys[place] < keys[best[of.lr]]:
            best[of.lr] = place
    return {lr: finals[place] for lr, place in best.items()}


def _regime(lr: float, best: float | None, kept: float | None) -> Regime:
    if kept is None or best is None:
        return "unknown"
    if not exceeds(KEPT, kept):
        return "good"
    return "too low" if lr < best else "too high"


def _good_region(rates: Sequence[RateResult], best: float | None) -> tuple[float, float] | None:
    for is_good, neighbours in groupby(rates, key=lambda rate: rate.regime == "good"):
        region = [rate.lr for rate in neighbours]
        if is_good and best in region:
            return region[0], region[-1]
    return None


def _lost(rates: Sequence[RateResult]) -> float | None:
    lost = [
        1 - (0.0 if rate.regime == "diverged" or rate.kept is None else rate.kept)
        for rate in rates
        if rate.n or rate.diverged
    ]
    return float(np.mean(lost)) if len(lost) > 1 else None
