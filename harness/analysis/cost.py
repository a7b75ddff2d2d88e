"""What results cost: seconds, throughput, memory; and which configs no other beats at less."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.core.metrics import BEST_EPOCH, EVAL_SECONDS, PEAK_MEMORY, THROUGHPUT, TRAIN_SECONDS
from harness.core.records import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Means over the trials of a group that are done; None where none has the figure.

    train_s, eval_s: seconds of a whole trial. pace: training examples a second, at the end.
    memory_mib: the largest peak (`training.resources.PeakMemory`).
    best_epoch: where the selection metric was best.
    exclusive: whether every one of them had its device to itself, so that times compare.
    """

    trials: int
    train_s: float | None
    eval_s: float | None
    pace: float | None
    memory_mib: float | None
    best_epoch: float | None
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """A config's place in the plane of cost and score. front: whether no other config of its task
    is at least as good in both and better in one."""

    config_id: str
    task: str
    cost: float
    score: float
    front: bool


def cost_of(trials: pd.DataFrame) -> Cost:
    done = trials[trials["outcome"] == Outcome.DONE]
    return Cost(
        trials=len(done),
        train_s=_mean(done, TRAIN_SECONDS),
        eval_s=_mean(done, EVAL_SECONDS),
        pace=_mean(done, THROUGHPUT),
        memory_mib=_max(done, PEAK_MEMORY),
        best_epoch=_mean(done, BEST_EPOCH),
        exclusive=bool(len(done)) and bool(done["exclusive"].all()),
    )


def pareto(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Which points no other dominates; a lower cost and a higher score are better. Equal points
    are both on the front or both off it."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    front = [False] * len(costs)
    best, at = -np.inf, np.nan
    for i in order:
        if scores[i] > best:
            best, at = scores[i], costs[i]
            front[i] = True
        elif scores[i] == best and costs[i] == at:
            front[i] = True
    return front


def _mean(trials: pd.DataFrame, column: str) -> float | None:
    if column not in trials:
        return None
    values = trials[column].dropna()
    return float(values.mean()) if len(values) else None


def _max(trials: pd.DataFrame, column: str) -> float | None:
    if column not in trials:
        return None
    values = trials[column].dropna()
    return float(values.max()) if len(values) else None
