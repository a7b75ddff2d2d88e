"""Step decay: at equal intervals, or at given milestones."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

from pydantic import Field, field_validator

from harness.components.base import Horizon, Integers, Schedule, Scheduler, TimeScheduleOptions


class StepOptions(TimeScheduleOptions):
    step_size: int | None = Field(
        None, gt=0, description="units between steps; null: a third of the run, rounded up"
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each step")


class MultistepOptions(TimeScheduleOptions):
    milestones: Integers | None = Field(
        None,
        description="increasing units at which it steps; null: half and three quarters of the run",
    )
    gamma: float = Field(0.1, gt=0, le=1, description="factor of each step")

    @field_validator("milestones")
    @classmethod
    def _increasing(cls, milestones: Integers | None) -> Integers | None:
        if milestones is not None and (
            not milestones or any(late <= early for early, late in pairwise((0, *milestones)))
        ):
            raise ValueError("should be at least one number, above 0 and increasing")
        return milestones


def build_step(options: StepOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    step_size = options.step_size or -(-horizon.units(options.by) // 3)
    return lambda lr, t: lr * gamma ** (t // step_size)


def build_multistep(options: MultistepOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    total = horizon.units(options.by)
    milestones = options.milestones or (-(-total // 2), -(-total * 3 // 4))
    return lambda lr, t: lr * gamma ** bisect_right(milestones, t)


COMPONENTS = (
    Scheduler(
        name="step",
        description="lr × gamma^⌊t / step_size⌋, as torch's StepLR",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.StepLR.html",
        options=StepOptions,
        tiny=({}, {"step_size": 1, "gamma": 0.5, "by": "batch"}),
        build=build_step,
        needs_length=lambda options: options.step_size is None,
    ),
    Scheduler(
        name="multistep",
        description="lr × gamma^(number of milestones reached), as torch's MultiStepLR",
        reference="He, Zhang, Ren and Sun, CVPR 2016, section 4.2 (steps at 50 % and 75 %)",
        options=MultistepOptions,
        tiny=({}, {"milestones": [1, 3], "gamma": 0.5, "by": "batch"}),
        build=build_multistep,
        needs_length=lambda options: options.milestones is None,
    ),
)
