"""The learning rate of each batch: a warm-up, then the schedule."""

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

    The warm-up has W = round(warmup_epochs × steps_per_epoch) batches; its batch b has the rate
    lr × (start + (1 − start) × b / W). The schedule starts at batch W: its t counts batches from
    there, or epochs, which then end within an epoch of training if W is no multiple of
    steps_per_epoch. A schedule over the whole run covers the batches after the warm-up
    (`Horizon.units`). A run shorter than its warm-up never reaches its schedule.

    scheduler: with validated options. base: the trial's lr. horizon: of the whole run.
    constant_within_epoch: whether `at` returns one value for all batches of each epoch.
    watches: the metric that the schedule follows ("val/loss"), or None.
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
        remaining = Horizon(horizon.epochs, horizon.steps_per_epoch, self._warmup)
        schedule = scheduler.component.build(options, remaining)
        self._timed: Schedule | None = None
        self._metric: MetricSchedule | None = None
        if scheduler.component.driven_by == "time":
            self._timed = cast("Schedule", schedule)
        else:
            self._metric = cast("MetricSchedule", schedule)

    def at(self, batch: int) -> float:
        """Returns the learning rate of a batch, counted over the whole run from 0.

        A schedule that follows a metric uses the values it has observed so far.
        """
        base = self._metric.lr(self._base) if self._metric else self._base
        if batch < self._warmup:
            return base * (self._start + (1 - self._start) * batch / self._warmup)
        if self._timed:
            return self._timed(base, (batch - self._warmup) // self._unit)
        return base

    def observe(self, values: Mapping[str, float]) -> None:
        """Passes on an epoch's metrics by name ("val/loss").

        Epochs that did not measure the metric are ignored, so that patience counts evaluations.
        """
        watched = self.watches
        if self._metric and watched is not None and watched in values:
            self._metric.step(values[watched])

    def state(self) -> dict[str, float]:
        """Returns what `load` needs to resume; empty for a function of time."""
        return self._metric.state_dict() if self._metric else {}

    def load(self, state: Mapping[str, float]) -> None:
        if self._metric:
            self._metric.load_state_dict(state)
