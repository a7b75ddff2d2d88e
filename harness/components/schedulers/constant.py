"""The learning rate as given, after a warm-up where one is wanted."""

from __future__ import annotations

from pydantic import Field

from harness.components.base import Horizon, Schedule, Scheduler, TimeScheduleOptions


class WarmupOptions(TimeScheduleOptions):
    warmup_epochs: float = Field(1.0, ge=0, description="epochs of linear warm-up in front")


def build(options: TimeScheduleOptions, horizon: Horizon) -> Schedule:
    return lambda lr, _t: lr


COMPONENTS = (
    Scheduler(
        name="constant",
        description="the learning rate as given",
        reference="Robbins and Monro, Annals of Mathematical Statistics 22 (1951)",
        tiny=({}, {"warmup_epochs": 0.5, "warmup_start": 0.1}),
        build=build,
        needs_length=lambda _: False,
    ),
    Scheduler(
        name="warmup",
        description="constant after a linear warm-up; every scheduler can have one in front",
        reference="Goyal et al., arXiv:1706.02677 (2017)",
        options=WarmupOptions,
        tiny=({}, {"warmup_start": 0.5}),
        build=build,
        needs_length=lambda _: False,
    ),
)
