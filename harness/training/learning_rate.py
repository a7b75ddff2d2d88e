"""Joins the warm-up and the schedule proper into the learning rate of each batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from harness.components.base import (
    Horizon,
    MetricSchedule,
    MetricScheduleOptions,
    Schedule,
    Scheduler,
    SchedulerOptions,
    TimeScheduleOptions,
)
from harness.experiment.trial import Choice


class LearningRate:
    """The learning rate of a trial, batch by batch.

    In the warm-up's W = round(warmup_epochs × steps_per_epoch) batches, batch b has
    lr × (start + (1 − start) × b / W). The schedule's own time begins at batch W: its t counts
    batches from there, or whole epochs of batches, which end in mid-epoch where W is no multiple
    of an epoch; schedules that span the run span what is left of it (`Horizon.units`). A run
    shorter than its warm-up never reaches its schedule.

    scheduler: with validated options. base: the trial's lr. horizon: of the whole run.
    constant_within_epoch: whether `at` gives one value for all batches of any epoch.
    watches: the metric that steers the schedule ("val/loss"), or None.
    """

    def __init__(self, scheduler: Choice[Scheduler], base: float, horizon: Horizon) -> None:
        options = cast("SchedulerOptions", scheduler.options)
        self._base = base
        self._start = options.warmup_start
        self._warmup = round(options.warmup_epochs * horizon.steps_per_epoch)
        by_batch = isinstance(options, TimeScheduleOptions) and options.by == "batch"
        self._unit = 1 if by_batch else horizon.steps_per_epoch
        self.constant_within_epoch = horizon.steps_per_epoch == 1 or not (self._warmup or by_batch)
        self.watches = options.metric if isinstance(options, MetricScheduleOptions) else None
        left = Horizon(horizon.epochs, horizon.steps_per_epoch, self._warmup)
        built = scheduler.component.build(options, left)
        self._timed: Schedule | None = None
        self._metric: MetricSchedule | None = None
        if scheduler.component.driven_by == "time":
            self._timed = cast("Schedule", built)
        else:
            self._metric = cast("MetricSchedule", built)

    def at(self, batch: int) -> float:
        """The learning rate of a batch, counted over the whole run from 0.

        Of a schedule that watches a metric: by what it has observed so far.
        """
        base = self._metric.lr(self._base) if self._metric else self._base
        if batch < self._warmup:
            return base * (self._start + (1 - self._start) * batch / self._warmup)
        if self._timed:
            return self._timed(base, (batch - self._warmup) // self._unit)
        return base

    def observe(self, values: Mapping[str, float]) -> None:
        """What was measured after an epoch, by name ("val/loss").

        An epoch that did not measure the watched metric is passed over, so that patience counts
        evaluations.
        """
        watched = self.watches
        if self._metric and watched is not None and watched in values:
            self._metric.step(values[watched])

    def state(self) -> dict[str, float]:
        """What `load` needs after a resume; empty for a function of time."""
        return self._metric.state_dict() if self._metric else {}

    def load(self, state: Mapping[str, float]) -> None:
        if self._metric:
            self._metric.load_state_dict(state)


def table(scheduler: Choice[Scheduler], base: float, horizon: Horizon) -> list[float]:
    """The learning rate of every batch of a run, [epochs × steps_per_epoch].

    Raises ValueError for a schedule that watches a metric: its rates are not known beforehand.
    """
    if scheduler.component.driven_by != "time":
        raise ValueError(f"{scheduler.name} follows a metric and has no table")
    rate = LearningRate(scheduler, base, horizon)
    return [rate.at(batch) for batch in range(horizon.epochs * horizon.steps_per_epoch)]
