"""Cosine annealing with warm restarts (SGDR)."""

from __future__ import annotations

from math import cos, pi

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class CosineRestartsOptions(TimeScheduleOptions):
    t_0: int | None = Field(
        None, gt=0, description="units to the first restart; none is as two cycles fill the run"
    )
    t_mult: int = Field(1, ge=1, description="each cycle is this many times the one before")
    eta_min: float = Field(0.0, ge=0, description="the floor, as a learning rate")


def build(options: CosineRestartsOptions, horizon: Horizon) -> Schedule:
    floor = options.eta_min
    first = options.t_0 or -(-horizon.units(options.by) // (1 + options.t_mult))

    def schedule(lr: float, t: int) -> float:
        since, cycle = _since_restart(t, first, options.t_mult)
        height = (1 + cos(pi * since / cycle)) / 2
        return lr * height + floor * (1 - height)

    return schedule


def _since_restart(t: int, first: int, factor: int) -> tuple[int, int]:
    """Units since the last restart, and the length of the cycle it began."""
    if factor == 1:
        return t % first, first
    cycle = first
    while t >= cycle:
        t -= cycle
        cycle *= factor
    return t, cycle


COMPONENTS = (
    Scheduler(
        name="cosine_restarts",
        description="cosine annealing that starts anew, as CosineAnnealingWarmRestarts",
        reference="Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983",
        options=CosineRestartsOptions,
        tiny=({}, {"t_0": 1, "t_mult": 2, "eta_min": 1e-4, "by": "batch"}),
        build=build,
        needs_length=lambda options: options.t_0 is None,
    ),
)
