"""A straight line between two factors of the learning rate."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class LinearOptions(TimeScheduleOptions):
    """A decay to zero by default, where torch's LinearLR rises from a third: a warm-up is every
    scheduler's own option here."""

    start_factor: float = Field(1.0, ge=0, le=1, description="of lr, at the start")
    end_factor: float = Field(0.0, ge=0, le=1, description="of lr, at `total` and after")
    total: int | None = Field(None, gt=0, description="units to the end; none is the whole run")


def build(options: LinearOptions, horizon: Horizon) -> Schedule:
    start, end = options.start_factor, options.end_factor
    total = options.total or horizon.units(options.by)

    def schedule(lr: float, t: int) -> float:
        done = min(t, total) / total
        return lr * (start * (1 - done) + end * done)  # never below 0, as rounding of a sum may be

    return schedule


COMPONENTS = (
    Scheduler(
        name="linear",
        description="lr × a factor that goes straight from one value to another, as LinearLR",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LinearLR.html",
        options=LinearOptions,
        tiny=({}, {"start_factor": 0.5, "end_factor": 0.1, "total": 2, "by": "batch"}),
        build=build,
        needs_length=lambda options: options.total is None,
    ),
)
