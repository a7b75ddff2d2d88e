"""Exponential decay."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class ExponentialOptions(TimeScheduleOptions):
    gamma: float = Field(0.95, gt=0, le=1, description="factor of each unit")


def build(options: ExponentialOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    return lambda lr, t: lr * gamma**t


COMPONENTS = (
    Scheduler(
        name="exponential",
        description="lr × gamma^t, as torch's ExponentialLR",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ExponentialLR.html",
        options=ExponentialOptions,
        tiny=({}, {"gamma": 0.5, "by": "batch"}),
        build=build,
        needs_length=lambda _: False,
    ),
)
