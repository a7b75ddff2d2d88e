"""Drops by a factor at given times."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from pydantic import Field, field_validator

from harness.components.base import Horizon, Integers, Schedule, Scheduler, TimeScheduleOptions


class MultistepOptions(TimeScheduleOptions):
    milestones: Integers | None = Field(
        None,
        description="units at which it drops, rising; none is a half and three quarters of the run",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor at each drop")

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: Integers | None) -> Integers | None:
        if milestones is not None and (
            not milestones or any(late <= early for early, late in pairwise((0, *milestones)))
        ):
            raise ValueError("should be at least one number, above 0 and rising")
        return milestones


def build(options: MultistepOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    total = horizon.units(options.by)
    milestones = options.milestones or (-(-total // 2), -(-total * 3 // 4))
    return lambda lr, t: lr * gamma ** bisect_right(milestones, t)


COMPONENTS = (
    Scheduler(
        name="multistep",
        description="lr × gamma^(milestones reached), as torch's MultiStepLR",
        reference="He, Zhang, Ren and Sun, CVPR 2016, section 4.2 (drops at 50 % and 75 %)",
        options=MultistepOptions,
        tiny=({}, {"milestones": [1, 3], "gamma": 0.5, "by": "batch"}),
        build=build,
        needs_length=lambda options: options.milestones is None,
    ),
)
