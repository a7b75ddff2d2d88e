"""One rise to the learning rate and one long fall, over the whole run.

The learning rate alone moves: momentum is not cycled, unlike torch's default
(`cycle_momentum=True`), so that the optimizer's options stay what the trial says.
"""

from __future__ import annotations

from itertools import pairwise
from math import cos, pi
from typing import Literal

from pydantic import Field, model_validator

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class OneCycleOptions(TimeScheduleOptions):
    """The trial's lr is the peak, torch's `max_lr`."""

    by: Literal["epoch", "batch"] = Field("batch", description="the unit of its steps")
    pct_start: float = Field(0.3, ge=0, le=1, description="fraction of the run that rises")
    anneal_strategy: Literal["cos", "linear"] = Field("cos", description="shape of each phase")
    div_factor: float = Field(25.0, ge=1, description="it starts at lr / this")
    final_div_factor: float = Field(1e4, ge=1, description="it ends at its start / this")
    three_phase: bool = Field(
        False, description="fall to the start as fast as it rose, then on to the end"
    )

    @model_validator(mode="after")
    def _room_for_three(self) -> OneCycleOptions:
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(
                f"pct_start should be at most 0.5 with three_phase, which rises and falls in that "
                f"fraction each; {self.pct_start} was given"
            )
        return self


def build(options: OneCycleOptions, horizon: Horizon) -> Schedule:
    total = horizon.units(options.by)
    left = _cosine if options.anneal_strategy == "cos" else _straight
    start = 1 / options.div_factor
    # The corners: (unit, factor of lr there).
    corners = [(0.0, start), (options.pct_start * total - 1, 1.0)]
    if options.three_phase:
        corners.append((2 * options.pct_start * total - 2, start))
    corners.append((total - 1.0, start / options.final_div_factor))
    phases = list(pairwise(corners))

    def schedule(lr: float, t: int) -> float:
        t = min(t, total - 1)
        (began, here), (ends, there) = next(phase for phase in phases if t <= phase[1][0])
        done = (t - began) / (ends - began) if ends > began else 1.0
        return lr * (here * left(done) + there * (1 - left(done)))

    return schedule


def _cosine(done: float) -> float:
    return (1 + cos(pi * done)) / 2


def _straight(done: float) -> float:
    return 1 - done


COMPONENTS = (
    Scheduler(
        name="onecycle",
        description="lr / div_factor up to lr, then down to almost nothing, as OneCycleLR; "
        "momentum is not cycled",
        reference="Smith and Topin, arXiv:1708.07120",
        options=OneCycleOptions,
        tiny=(
            {},
            {"anneal_strategy": "linear", "three_phase": True, "by": "epoch"},
        ),
        build=build,
        needs_length=lambda _: True,
    ),
)
