"""Half a cosine from the learning rate down to its floor."""

from __future__ import annotations

from math import cos, pi

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class CosineOptions(TimeScheduleOptions):
    t_max: int | None = Field(
        None, gt=0, description="units to the floor, then it rises again; none is the whole run"
    )
    eta_min: float = Field(0.0, ge=0, description="the floor, as a learning rate")


def build(options: CosineOptions, horizon: Horizon) -> Schedule:
    floor = options.eta_min
    t_max = options.t_max or horizon.units(options.by)

    def schedule(lr: float, t: int) -> float:
        height = (1 + cos(pi * t / t_max)) / 2
        return lr * height + floor * (1 - height)

    return schedule


COMPONENTS = (
    Scheduler(
        name="cosine",
        description="eta_min + (lr − eta_min)(1 + cos(πt / t_max)) / 2, as CosineAnnealingLR",
        reference="Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983",
        options=CosineOptions,
        tiny=({}, {"t_max": 2, "eta_min": 1e-4, "by": "batch"}),
        build=build,
        needs_length=lambda options: options.t_max is None,
    ),
)
