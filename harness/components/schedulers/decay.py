"""A constant rate, and rates that decay by steps, exponentially, linearly or as a polynomial."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise
from typing import Final

from pydantic import Field, field_validator

from harness.components.base import Horizon, Integers, Schedule, Scheduler, TimeScheduleOptions

TORCH: Final = "https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler"


class WarmupOptions(TimeScheduleOptions):
    warmup_epochs: float = Field(
        1.0, ge=0, description="epochs of linear warm-up before the schedule"
    )


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


class ExponentialOptions(TimeScheduleOptions):
    gamma: float = Field(0.95, gt=0, le=1, description="factor of each unit")


class LinearOptions(TimeScheduleOptions):
    """By default it decays to zero. torch's LinearLR rises from a third, for a warm-up, which is an
    option of every scheduler here."""

    start_factor: float = Field(1.0, ge=0, le=1, description="factor of lr at the start")
    end_factor: float = Field(0.0, ge=0, le=1, description="factor of lr at `total` and after it")
    total: int | None = Field(None, gt=0, description="units until the end; null: the whole run")


class PolynomialOptions(TimeScheduleOptions):
    power: float = Field(1.0, gt=0, description="1 is a straight line, 2 a parabola")
    total: int | None = Field(None, gt=0, description="units until zero; null: the whole run")


def build_constant(options: TimeScheduleOptions, horizon: Horizon) -> Schedule:
    return lambda lr, _t: lr


def build_step(options: StepOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    step_size = options.step_size or -(-horizon.units(options.by) // 3)
    return lambda lr, t: lr * gamma ** (t // step_size)


def build_multistep(options: MultistepOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    total = horizon.units(options.by)
    milestones = options.milestones or (-(-total // 2), -(-total * 3 // 4))
    return lambda lr, t: lr * gamma ** bisect_right(milestones, t)


def build_exponential(options: ExponentialOptions, horizon: Horizon) -> Schedule:
    gamma = options.gamma
    return lambda lr, t: lr * gamma**t


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
        name="constant",
        description="constant learning rate",
        reference="Robbins and Monro, Annals of Mathematical Statistics 22 (1951)",
        tiny=({}, {"warmup_epochs": 0.5, "warmup_start": 0.1}),
        build=build_constant,
        needs_length=lambda _: False,
    ),
    Scheduler(
        name="warmup",
        description="constant after a linear warm-up, which every scheduler can have",
        reference="Goyal et al., arXiv:1706.02677 (2017)",
        options=WarmupOptions,
        tiny=({}, {"warmup_start": 0.5}),
        build=build_constant,
        needs_length=lambda _: False,
    ),
    Scheduler(
        name="step",
        description="lr × gamma^⌊t / step_size⌋, as torch's StepLR",
        reference=f"{TORCH}.StepLR.html",
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
    Scheduler(
        name="exponential",
        description="lr × gamma^t, as torch's ExponentialLR",
        reference=f"{TORCH}.ExponentialLR.html",
        options=ExponentialOptions,
        tiny=({}, {"gamma": 0.5, "by": "batch"}),
        build=build_exponential,
        needs_length=lambda _: False,
    ),
    Scheduler(
        name="linear",
        description="lr × a factor that changes linearly, as torch's LinearLR",
        reference=f"{TORCH}.LinearLR.html",
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
