"""Metrics that are recorded: their names, the goal that ranks trials, and a trial's summary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from harness.core.records import Measured

FINAL: Final = "final/"
"""Prefix of a metric of the last epoch's model ("final/test/accuracy")."""
BEST: Final = "best/"
"""Prefix of a metric at the epoch with the best selection metric ("best/test/accuracy")."""
GIVEN: Final = "given/"
"""Prefix of a metric of which another program kept one value a run, chosen in its own way."""
BEST_EPOCH: Final = "best/epoch"
EPOCHS_TO_TARGET: Final = "epochs_to_target"
EXAMPLES_TO_TARGET: Final = "examples_to_target"
TRAIN_SECONDS: Final = "time/train_s"
"""Seconds of training so far, without evaluation."""
EVAL_SECONDS: Final = "time/eval_s"
"""Seconds of evaluation so far."""
THROUGHPUT: Final = "examples_per_s"
"""Training examples per second, over the epochs since the previous measurement."""
PEAK_MEMORY: Final = "memory/peak_mib"
"""Peak memory in MiB, recorded at the last epoch."""
BATCH_LOSS: Final = "batch/loss"
"""Loss of a single batch; its step is the number of examples seen."""
MEASURED_AT_EVALUATIONS: Final = ("val/", "test/")
"""Prefixes of the metrics of an evaluation. Those of the training split are of every epoch."""
EVALUATION: Final = "test/loss"
"""A metric that every evaluation measures."""
MACHINE_DEPENDENT: Final = ("time/", THROUGHPUT, PEAK_MEMORY)
"""Prefixes of the metrics that differ when a trial is repeated; all others are reproducible."""
NOT_SUMMARISED: Final = ("lr", *MACHINE_DEPENDENT)
"""Prefixes of the metrics that do not measure the model and get no "best/" value."""

Direction = Literal["max", "min"]

_OF_VALIDATION = re.compile(r"(?:val|valid|validation)(?P<measure>[/_].+)")


def test_metric(metric: str) -> str | None:
    """Returns the measure of the test split that a metric of the validation split goes with:
    "test/accuracy" of "val/accuracy", "test_acc" of "val_acc"; None of any other metric."""
    match = _OF_VALIDATION.fullmatch(metric)
    return f"test{match['measure']}" if match else None


@dataclass(frozen=True, slots=True)
class Goal:
    """The metric that trials are selected on. target: the value to reach, or None."""

    metric: str
    direction: Direction
    target: float | None = None

    def better(self, value: float, than: float) -> bool:
        return value > than if self.direction == "max" else value < than

    def reached(self, value: float) -> bool:
        if self.target is None:
            return False
        return value >= self.target if self.direction == "max" else value <= self.target


def best_epoch(history: Iterable[Measured], goal: Goal) -> Measured | None:
    """Returns the evaluation with the best value of the goal's metric; of equals, the earliest.

    Returns None if no evaluation measured the metric. The untrained model (epoch 0) is not
    considered, and neither are epochs without an evaluation: of these, only metrics of the training
    split are known. A training loop of a user's own may yield no other metrics: all its epochs are
    considered then.
    """
    best: Measured | None = None
    measurements = list(history)
    evaluated = [measured for measured in measurements if _is_evaluated(measured)]
    for measured in evaluated or measurements:
        if goal.metric not in measured.values or measured.epoch == 0:
            continue
        if best is None or goal.better(measured.values[goal.metric], best.values[goal.metric]):
            best = measured
    return best


def _is_evaluated(measured: Measured) -> bool:
    return any(name.startswith(MEASURED_AT_EVALUATIONS) for name in measured.values)


def summarise_trial(
    history: Sequence[Measured], final: Mapping[str, float], goal: Goal
) -> dict[str, float]:
    """Returns the metrics that are stored when a trial ends, by MLflow name.

    final: the metrics of the last epoch's model (`Ended.final`). A target that was not reached
    adds no metric.
    """
    summary = {FINAL + name: value for name, value in final.items()}
    best = best_epoch(history, goal)
    if best is not None:
        summary[BEST_EPOCH] = float(best.epoch)
        for name, value in best.values.items():
            if not name.startswith(NOT_SUMMARISED):
                summary[BEST + name] = value
    for measured in history:
        reached = goal.metric in measured.values and goal.reached(measured.values[goal.metric])
        if measured.epoch and reached:
            summary[EPOCHS_TO_TARGET] = float(measured.epoch)
            if measured.examples:  # A training loop of a user's own does not count them.
                summary[EXAMPLES_TO_TARGET] = float(measured.examples)
            break
    return summary
