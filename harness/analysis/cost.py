"""What trials cost: seconds, throughput and memory, by config and by device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.resolution import differences, resolution_of
from harness.analysis.trials import EXPERIMENT
from harness.core.metrics import BEST_EPOCH, EVAL_SECONDS, PEAK_MEMORY, THROUGHPUT, TRAIN_SECONDS
from harness.core.records import Outcome
from harness.experiment.trial import DEVICE_FIELDS
from harness.store.names import PARAM_CONFIG, PARAM_TRIAL

NOT_THE_TRIAL = (*DEVICE_FIELDS, EXPERIMENT, PARAM_TRIAL, PARAM_CONFIG)
"""Fields in which the same trial on two devices may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Means over those trials of a group that are done; None if no trial has the figure.

    train_s, eval_s: seconds of a whole trial. pace: training examples a second, at the end.
    memory_mib: the largest peak (see `training.resources.PeakMemory`).
    best_epoch: the epoch at which the selection metric was best.
    exclusive: whether every trial had its device to itself, so that times can be compared.
    """

    trials: int
    train_s: float | None
    eval_s: float | None
    pace: float | None
    memory_mib: float | None
    best_epoch: float | None
    exclusive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCost:
    """A device compared with the first one, over the trials that are done on both.

    slower: the geometric mean of the ratio of training seconds to those on the first device; None
        if there is none or trials shared a device.
    apart: the largest difference of a trial's score between the two.
    """

    device: str
    trials: int
    slower: float | None
    apart: float | None
    cost: Cost


def cost_of(trials: pd.DataFrame) -> Cost:
    """Returns the cost of a group of trials."""
    done = trials[trials["outcome"] == Outcome.DONE]

    def values(column: str) -> pd.Series[float]:
        return done[column].dropna() if column in done else pd.Series(dtype=float)

    def mean(column: str) -> float | None:
        return float(values(column).mean()) if len(values(column)) else None

    peaks = values(PEAK_MEMORY)
    return Cost(
        trials=len(done),
        train_s=mean(TRAIN_SECONDS),
        eval_s=mean(EVAL_SECONDS),
        pace=mean(THROUGHPUT),
        memory_mib=float(peaks.max()) if len(peaks) else None,
        best_epoch=mean(BEST_EPOCH),
        exclusive=bool(len(done)) and bool(done["exclusive"].all()),
    )


def pareto(costs: Sequence[float], scores: Sequence[float]) -> list[bool]:
    """Returns which points no other point dominates; lower costs and higher scores are better.
    Equal points are both on the front or both off it."""
    order = sorted(range(len(costs)), key=lambda i: (costs[i], -scores[i]))
    front = [False] * len(costs)
    best_score, cost_of_best = -np.inf, np.nan
    for i in order:
        if scores[i] > best_score:
            best_score, cost_of_best = scores[i], costs[i]
            front[i] = True
        elif scores[i] == best_score and costs[i] == cost_of_best:
            front[i] = True
    return front


def devices_of(trials: pd.DataFrame) -> pd.Series:
    """Returns the device that each trial used: "cpu", "cuda", with its model where there are
    several. Devices of one model count as one. NaN if no device is recorded."""
    kind = trials["device_used"].astype("string").str.replace(":.*", "", regex=True)
    model = trials["device_name"].astype("string").fillna("")
    several = model.groupby(kind).transform("nunique") > 1
    return kind.where(~several, kind + " (" + model + ")")


def mixed_configs(trials: pd.DataFrame) -> int:
    """Returns how many configs have trials on devices of more than one model."""
    return int((devices_of(trials).groupby(trials[PARAM_CONFIG]).nunique() > 1).sum())


def across_devices(
    trials: pd.DataFrame, fields: Sequence[str], score: str
) -> tuple[DeviceCost, ...]:
    """Compares the devices on which the same trials ran; empty for fewer than two devices.

    fields: the columns that describe a trial. score: the column of its score.
    """
    done = trials[(trials["outcome"] == Outcome.DONE) & trials["device_used"].notna()]
    done = done.assign(on_device=devices_of(done))
    if done["on_device"].nunique() < 2 or TRAIN_SECONDS not in done:
        return ()
    identity = [name for name in fields if name not in NOT_THE_TRIAL]
    done["same"] = pd.util.hash_pandas_object(done[identity].astype(str), index=False)
    done = done[done.groupby("same")["on_device"].transform("nunique") > 1]
    names = list(done["on_device"].unique())
    return tuple(_compare_devices(done, names[0], name, score) for name in names)


def _compare_devices(done: pd.DataFrame, first: str, other: str, score: str) -> DeviceCost:
    on_first, on_other = (done[done["on_device"] == name] for name in (first, other))
    common = set(on_first["same"]) & set(on_other["same"])
    on_first, on_other = (of[of["same"].isin(common)] for of in (on_first, on_other))
    columns = [TRAIN_SECONDS, score]
    base, ours = (of.groupby("same")[columns].mean() for of in (on_first, on_other))
    base = base.loc[ours.index]
    ratios = (ours[TRAIN_SECONDS] / base[TRAIN_SECONDS]).to_numpy()
    exclusive = bool(common) and bool(on_first["exclusive"].all() and on_other["exclusive"].all())
    timed = exclusive and bool((np.isfinite(ratios) & (ratios > 0)).all())
    gaps = np.abs(differences(ours[score], base[score], resolution_of(done[score])))
    gaps = gaps[np.isfinite(gaps)]
    return DeviceCost(
        device=other,
        trials=len(common),
        slower=float(np.exp(np.log(ratios).mean())) if timed else None,
        apart=float(gaps.max()) if len(gaps) else None,
        cost=cost_of(on_other),
    )
