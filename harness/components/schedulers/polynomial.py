"""Polynomial decay to zero."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class PolynomialOptions(TimeScheduleOptions):
    power: float = Field(1.0, gt=0, description="1 is a straight line, 2 a parabola")
    total: int | None = Field(None, gt=0, description="units to zero; none is the whole run")


def build(options: PolynomialOptions, horizon: Horizon) -> Schedule:
    total = options.total or horizon.units(options.by)
    return lambda lr, t: lr * (1 - min(t, total) / total) ** options.power


COMPONENTS = (
    Scheduler(
        name="polynomial",
        description="lr × (1 − t / total)^power, as torch's PolynomialLR",
        reference="Chen et al., arXiv:1606.00915, section 4.1 (power 0.9)",
        options=PolynomialOptions,
        tiny=({}, {"power": 2.0, "total": 2, "by": "batch"}),
        build=build,
        needs_length=lambda options: options.total is None,
    ),
)
