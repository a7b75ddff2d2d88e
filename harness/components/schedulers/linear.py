"""Linear and polynomial decay."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class LinearOptions(TimeScheduleOptions):
    """By default it decays to zero. torch's LinearLR rises from a third, for a warm-up, which is an
    option of every scheduler here."""

    start_factor: float = Field(1.0, ge=0, le=1, description="factor of lr at the start")
    end_factor: float = Field(0.0, ge=0, le=1, description="factor of lr at `total` and after it")
    total: int | None = Field(None, gt=0, description="units until the end; null: the whole run")


class PolynomialOptions(TimeScheduleOptions):
    power: float = Field(1.0, gt=0, description="1 is a straight line, 2 a parabola")
    total: int | None = Field(None, gt=0, description="units until zero; null: the whole run")


def build_linear(options: LinearOptions, horizon: Horizon) -> Schedule:
    start, end = options.start_factor, options.end_factor
    total = options.total or horizon.units(options.by)

    def schedule(lr: float, t: int) -> float:
        done = min(t, total) / total
        # start + done × (end − start) could fall below 0 by rounding.
        return lr * (start * (1 - done) + end * done)

    return schedule


def build_polynomial(options: PolynomialOptions, horizon: Horizon) -> Schedule:
    total = options.total or horizon.units(options.by)
    return lambda lr, t: lr * (1 - min(t, total) / total) ** options.power


COMPONENTS = (
    Scheduler(
        name="linear",
        description="lr × a factor that changes linearly, as torch's LinearLR",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html",
        options=LinearOptions,
        tiny=({}, {"start_factor": 0.5, "end_factor": 0.1, "total": 2, "by": "batch"}),
        build=build_linear,
        needs_length=lambda options: options.total is None,
    ),
    Scheduler(
        name="polynomial",
        description="lr × (1 − t / total)^power, as torch's PolynomialLR",
        reference="Chen et al., arXiv:1606.00915, section 4.1 (power 0.9)",
        options=PolynomialOptions,
        tiny=({}, {"power": 2.0, "total": 2, "by": "batch"}),
        build=build_polynomial,
        needs_length=lambda options: options.total is None,
    ),
)
