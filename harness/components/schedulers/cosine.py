"""Cosine annealing, without and with warm restarts (SGDR)."""

from __future__ import annotations

from math import cos, pi

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class CosineOptions(TimeScheduleOptions):
    t_max: int | None = Field(
        None, gt=0, description="units until the minimum, then it rises again; null: the whole run"
    )
    eta_min: float = Field(0.0, ge=0, description="minimum learning rate")


class CosineRestartsOptions(TimeScheduleOptions):
    t_0: int | None = Field(
        None, gt=0, description="units until the first restart; null: two cycles fill the run"
    )
    t_mult: int = Field(
        1, ge=1, description="each cycle is t_mult times as long as the previous one"
    )
    eta_min: float = Field(0.0, ge=0, description="minimum learning rate")


def build_cosine(options: CosineOptions, horizon: Horizon) -> Schedule:
    t_max = options.t_max or horizon.units(options.by)
    return lambda lr, t: _annealed(lr, options.eta_min, t, t_max)


def build_cosine_restarts(options: CosineRestartsOptions, horizon: Horizon) -> Schedule:
    t_0 = options.t_0 or -(-horizon.units(options.by) // (1 + options.t_mult))
    return lambda lr, t: _annealed(lr, options.eta_min, *_since_restart(t, t_0, options.t_mult))


def _annealed(lr: float, eta_min: float, t: int, t_max: int) -> float:
    factor = (1 + cos(pi * t / t_max)) / 2
    return lr * factor + eta_min * (1 - factor)


def _since_restart(t: int, t_0: int, t_mult: int) -> tuple[int, int]:
    """Returns the units since the last restart, and the length of the current cycle."""
    if t_mult == 1:
        return t % t_0, t_0
    length = t_0
    while t >= length:
        t -= length
        length *= t_mult
    return t, length


COMPONENTS = (
    Scheduler(
        name="cosine",
        description="eta_min + (lr − eta_min)(1 + cos(πt / t_max)) / 2, as CosineAnnealingLR",
        reference="Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983",
        options=CosineOptions,
        tiny=({}, {"t_max": 2, "eta_min": 1e-4, "by": "batch"}),
        build=build_cosine,
        needs_length=lambda options: options.t_max is None,
    ),
    Scheduler(
        name="cosine_restarts",
        description="cosine annealing with warm restarts, as CosineAnnealingWarmRestarts",
        reference="Loshchilov and Hutter, ICLR 2017, arXiv:1608.03983",
        options=CosineRestartsOptions,
        tiny=({}, {"t_0": 1, "t_mult": 2, "eta_min": 1e-4, "by": "batch"}),
        build=build_cosine_restarts,
        needs_length=lambda options: options.t_0 is None,
    ),
)
