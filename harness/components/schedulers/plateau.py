"""Reduces the learning rate when a metric has stopped improving."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, isinf
from typing import Literal

from pydantic import Field, field_validator, model_validator

from harness.components.base import MetricScheduleOptions, Scheduler


class PlateauOptions(MetricScheduleOptions):
    """As torch's ReduceLROnPlateau. It counts evaluations, including those during the warm-up,
    but not that of the untrained model. `metric` must be one that the experiment records.

    A relative threshold of a negative best value is a fraction of its size. torch's has the wrong
    sign there, so that values that stand still count as improvements and the rate never falls.
    """

    mode: Literal["min", "max"] = Field("min", description="whether smaller or larger is better")
    factor: float = Field(0.1, gt=0, lt=1, description="factor of each reduction")
    patience: int = Field(10, ge=0, description="tolerated evaluations without improvement")
    threshold: float = Field(1e-4, ge=0, description="smallest change that is an improvement")
    threshold_mode: Literal["rel", "abs"] = Field(
        "rel", description="rel: the threshold is a fraction of the best value's size"
    )
    cooldown: int = Field(0, ge=0, description="evaluations after a reduction that do not count")
    min_lr: float = Field(0.0, ge=0, description="lower bound of the learning rate")
    eps: float = Field(1e-8, ge=0, description="smaller reductions are ignored")

    @field_validator("metric")
    @classmethod
    def _has_a_split(cls, metric: str) -> str:
        split, _, name = metric.partition("/")
        if split == "test":
            raise ValueError(f"{metric!r}: the test split must not influence training")
        if split not in ("val", "train") or not name:
            raise ValueError(f"{metric!r} should be a split and a metric, such as 'val/loss'")
        return metric

    @model_validator(mode="after")
    def _has_a_mode(self) -> PlateauOptions:
        if not self.metric.endswith("/loss") and "mode" not in self.model_fields_set:
            raise ValueError(f"mode should say whether {self.metric!r} is better at 'max' or 'min'")
        return self


class Plateau:
    """Counts evaluations without improvement, and reductions of the learning rate."""

    def __init__(self, options: PlateauOptions) -> None:
        self._options = options
        self._best = inf if options.mode == "min" else -inf
        self._bad = self._cooldown = self._drops = 0

    def step(self, value: float) -> None:
        """Takes the metric's value of one evaluation. NaN is no improvement."""
        if self._improves(value):
            self._best = value
            self._bad = 0
        else:
            self._bad += 1
        if self._cooldown > 0:
            self._cooldown -= 1
            self._bad = 0
        if self._bad > self._options.patience:
            self._drops += 1
            self._cooldown = self._options.cooldown
            self._bad = 0

    def _improves(self, value: float) -> bool:
        options, best = self._options, self._best
        sign = -1.0 if options.mode == "min" else 1.0
        if options.threshold_mode == "rel":
            outwards = sign if best >= 0 or isinf(best) else -sign
            threshold = best * (1.0 + outwards * options.threshold)
        else:
            threshold = best + sign * options.threshold
        return value < threshold if options.mode == "min" else value > threshold

    def lr(self, base: float) -> float:
        options = self._options
        rate = base
        for _ in range(self._drops):
            lower = max(rate * options.factor, options.min_lr)
            if rate - lower <= options.eps:
                break
            rate = lower
        return rate

    def state_dict(self) -> dict[str, float]:
        counts = {"bad": self._bad, "cooldown": self._cooldown, "drops": self._drops}
        return {"best": self._best, **counts}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        self._best = state["best"]
        self._bad = int(state["bad"])
        self._cooldown = int(state["cooldown"])
        self._drops = int(state["drops"])


def _revision(options: PlateauOptions) -> int:
    """Returns 2 where a relative threshold may be of a negative value, which gave other numbers."""
    is_relative = options.threshold_mode == "rel" and options.threshold > 0
    return 2 if is_relative and options.metric.endswith("/r2") else 1


COMPONENTS = (
    Scheduler(
        name="plateau",
        description="reduces lr when a metric has stopped improving, as ReduceLROnPlateau",
        reference="https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.ReduceLROnPlateau.html",
        options=PlateauOptions,
        revision=_revision,
        tiny=(
            {"patience": 0},
            {"metric": "train/accuracy", "mode": "max", "threshold_mode": "abs", "cooldown": 1},
        ),
        driven_by="metric",
        build=lambda options, _horizon: Plateau(options),
        needs_length=lambda _: False,
    ),
)
