"""The same trial on several devices: how the times compare, and whether the scores agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.cost import Cost, cost_of
from harness.analysis.joining import FIELD as EXPERIMENT
from harness.core.metrics import TRAIN_SECONDS
from harness.core.records import Outcome
from harness.experiment.trial import DEVICE_FIELDS
from harness.store.names import PARAM_CONFIG, PARAM_TRIAL

NOT_THE_TRIAL = (*DEVICE_FIELDS, EXPERIMENT, PARAM_TRIAL, PARAM_CONFIG)
"""Fields in which the same trial on two devices may differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCost:
    """One device beside the first one.

    trials: those that are done on both, of which all else speaks. slower: geometric mean of their
    seconds of training over those on the first; None without one, or where trials shared a device.
    apart: the largest difference of a trial's score between the two.
    """

    device: str
    trials: int
    slower: float | None
    apart: float | None
    cost: Cost


def places(trials: pd.DataFrame) -> pd.Series:
    """Of each trial, the device that it used: "cpu", "cuda"; with its make where there are several.
    Devices of one make are one, whichever of a machine's it was. NaN where nothing is recorded."""
    kind = trials["device_used"].astype("string").str.replace(":.*", "", regex=True)
    make = trials["device_name"].astype("string").fillna("")
    several = make.groupby(kind).transform("nunique") > 1
    return kind.where(~several, kind + " (" + make + ")")


def across_devices(
    trials: pd.DataFrame, fields: Sequence[str], column: str
) -> tuple[DeviceCost, ...]:
    """Each device that ran trials which another one ran too; nothing where there are no two.

    fields: those that say what a trial is. column: of its score.
    """
    done = trials[(trials["outcome"] == Outcome.DONE) & trials["device_used"].notna()]
    done = done.assign(place=places(done))
    if done["place"].nunique() < 2 or TRAIN_SECONDS not in done:
        return ()
    same = [name for name in fields if name not in NOT_THE_TRIAL]
    done["same"] = pd.util.hash_pandas_object(done[same].astype(str), index=False)
    done = done[done.groupby("same")["place"].transform("nunique") > 1]
    names = list(done["place"].unique())
    return tuple(_beside(done, names[0], name, column) for name in names)


def mixed_configs(trials: pd.DataFrame) -> int:
    """Configs whose trials ran on devices that are not all of one make."""
    return int((places(trials).groupby(trials[PARAM_CONFIG]).nunique() > 1).sum())


def _beside(done: pd.DataFrame, first: str, other: str, column: str) -> DeviceCost:
    one, two = (done[done["place"] == name] for name in (first, other))
    both = set(one["same"]) & set(two["same"])
    here, there = (
        of[of["same"].isin(both)].groupby("same")[[TRAIN_SECONDS, column]].mean()
        for of in (one, two)
    )
    here = here.loc[there.index]
    common = done[done["same"].isin(both) & done["place"].isin((first, other))]
    alone = bool(len(common)) and bool(common["exclusive"].all())
    ratios = (there[TRAIN_SECONDS] / here[TRAIN_SECONDS]).to_numpy()
    timed = alone and bool((np.isfinite(ratios) & (ratios > 0)).all())
    gaps = (there[column] - here[column]).abs().dropna()
    return DeviceCost(
        device=other,
        trials=len(both),
        slower=float(np.exp(np.log(ratios).mean())) if timed else None,
        apart=float(gaps.max()) if len(gaps) else None,
        cost=cost_of(two[two["same"].isin(both)]),
    )
