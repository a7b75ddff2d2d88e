"""A constant learning rate, with or without a warm-up."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class WarmupOptions(TimeScheduleOptions):
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs of linear warm-up before the schedule"
    )


def build(options: TimeScheduleOptions, horizon: Horizon) -> Schedule:
    return lambda lr, _t: lr


COMPONENTS = (
    Scheduler(
        name="constant",
        description="constant learning rate",
        reference="Robbins and Monro, Annals of Mathematical Statistics 22 (1951)",
        tiny=({}, {"warmup_epochs": 0.5, "warmup_start": 0.1}),
        build=build,
        needs_length=lambda _: False,
    ),
    Scheduler(
        name="warmup",
        description="constant after a linear warm-up, which every scheduler can have",
        reference="Goyal et al., arXiv:1706.02677 (2017)",
        options=WarmupOptions,
        tiny=({}, {"warmup_start": 0.5}),
        build=build,
        needs_length=lambda _: False,
    ),
)
