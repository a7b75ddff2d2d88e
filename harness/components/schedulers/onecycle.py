"""The one-cycle policy: the learning rate rises once, then falls until the end of the run.

Momentum is not cycled, unlike in torch by default (`cycle_momentum=True`), so that the optimizer's
options stay as the trial says.
"""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi
from typing import Literal

from pydantic import Field, model_validator

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class OneCycleOptions(TimeScheduleOptions):
    """The trial's lr is the maximum, torch's `max_lr`."""

    by: Literal["epoch", "batch"] = Field("batch", description="unit of the schedule's steps")
    pct_start: float = Field(0.3, ge=0, le=1, description="fraction of the run in which it rises")
    anneal_strategy: Literal["cos", "linear"] = Field("cos", description="shape of each phase")
    div_factor: float = Field(25.0, ge=1, description="it starts at lr / div_factor")
    final_div_factor: float = Field(
        1e4, ge=1, description="it ends at its start / final_div_factor"
    )
    three_phase: bool = Field(
        False, description="fall back to the start as fast as it rose, then fall to the end"
    )

    @model_validator(mode="after")
    def _three_phases_fit(self) -> OneCycleOptions:
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(
                f"pct_start should be at most 0.5 with three_phase, as rise and fall take that "
                f"fraction each; it is {self.pct_start}"
            )
        return self


def build(options: OneCycleOptions, horizon: Horizon) -> Schedule:
    total = horizon.units(options.by)
    remaining = _cosine if options.anneal_strategy == "cos" else _linear
    start = 1 / options.div_factor
    # Where the phases meet: (unit, factor of lr).
    corners = [(0.0, start), (options.pct_start * total - 1, 1.0)]
    if options.three_phase:
        corners.append((2 * options.pct_start * total - 2, start))
    corners.append((total - 1.0, start / options.final_div_factor))
    phases = list(pairwise(corners))

    def schedule(lr: float, t: int) -> float:
        t = min(t, total - 1)
        (start_unit, first), (end_unit, last) = next(phase for phase in phases if t <= phase[1][0])
        length = end_unit - start_unit
        done = (t - start_unit) / length if length > 0 else 1.0
        return lr * (first * remaining(done) + last * (1 - remaining(done)))

    return schedule


def _cosine(done: float) -> float:
    return (1 + cos(pi * done)) / 2


def _linear(done: float) -> float:
    return 1 - done


COMPONENTS = (
    Scheduler(
        name="onecycle",
        description="rises from lr / div_factor to lr, then falls to almost 0, as OneCycleLR; "
        "momentum is not cycled",
        reference="Smith and Topin, arXiv:1708.07120",
        options=OneCycleOptions,
        tiny=({}, {"anneal_strategy": "linear", "three_phase": True, "by": "epoch"}),
        build=build,
        needs_length=lambda _: True,
    ),
)
