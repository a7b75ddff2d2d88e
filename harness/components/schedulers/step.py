"""Drops by a factor at equal distances."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class StepOptions(TimeScheduleOptions):
    step_size: int | None = Field(
        None, gt=0, description="units between drops; none is a third of the run, rounded up"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor at each drop")


def build(options: StepOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    size = options.step_size or -(-horizon.units(options.by) // 3)
    return lambda lr, t: lr * gamma ** (t // size)


COMPONENTS = (
    Scheduler(
        name="step",
        description="lr × gamma^⌊t / step_size⌋, as torch's StepLR",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html",
        options=StepOptions,
        tiny=({}, {"step_size": 1, "gamma": 0.5, "by": "batch"}),
        build=build,
        needs_length=lambda options: options.step_size is None,
    ),
)
