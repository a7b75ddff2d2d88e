"""A trial's scalars, from its measurements: the best epoch, the last, the way to the target."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from harness.core.metric_names import (
    BEST,
    BEST_EPOCH,
    EPOCHS_TO_TARGET,
    EXAMPLES_TO_TARGET,
    FINAL,
    OF_THE_MACHINE,
)
from harness.core.records import Measured

Direction = Literal["max", "min"]
UNRANKED = ("lr", *OF_THE_MACHINE)
"""Beginnings of what is no measure of a model, and has no value "at the best epoch"."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What trials are selected on. target: the value of `metric` to be reached, or None."""

    metric: str
    direction: Direction
    target: float | None = None

    def better(self, value: float, than: float) -> bool:
        return value > than if self.direction == "max" else value < than

    def reached(self, value: float) -> bool:
        if self.target is None:
            return False
        return value >= self.target if self.direction == "max" else value <= self.target


def best(history: Iterable[Measured], goal: Goal) -> Measured | None:
    """The measurement with the best selection metric; the earliest of equals; None without one.

    The untrained model (epoch 0) is no candidate: what is selected is what training made.
    """
    found: Measured | None = None
    for point in history:
        if goal.metric not in point.values or point.epoch == 0:
            continue
        if found is None or goal.better(point.values[goal.metric], found.values[goal.metric]):
            found = point
    return found


def summarise(
    history: Sequence[Measured], final: Mapping[str, float], goal: Goal
) -> dict[str, float]:
    """The scalars that stand on a run at its end, by MLflow name.

    final: what the last epoch's model scores (`Ended.final`). A target never reached leaves no
    value: a miss is told by its absence.
    """
    scalars = {FINAL + name: value for name, value in final.items()}
    top = best(history, goal)
    if top is not None:
        scalars[BEST_EPOCH] = float(top.epoch)
        scalars.update(
            {BEST + name: v for name, v in top.values.items() if not name.startswith(UNRANKED)}
        )
    for point in history:
        if point.epoch and goal.metric in point.values and goal.reached(point.values[goal.metric]):
            scalars[EPOCHS_TO_TARGET] = float(point.epoch)
            scalars[EXAMPLES_TO_TARGET] = float(point.examples)
            break
    return scalars
